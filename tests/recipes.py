"""Code on a page of Markdown: blocks that name a file, and blocks that are run."""

import json
import re
from pathlib import Path

from musicmtl.core import repo_root

BLOCK = re.compile(r"^```(\w+)(?: ([^\n]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(
    page: str,  # File name in the repository
) -> list[tuple[str, str | None, str]]:  # Language, file it belongs to, text
    "Fenced blocks with a language, in order."
    text = (repo_root() / page).read_text(encoding="utf-8")
    return [(language, file, code) for language, file, code in BLOCK.findall(text)]


def files_of(page: str) -> dict:  # Name -> text; blocks of one file are joined
    "Files that a page tells how to write."
    files = {}
    for _, file, code in blocks(page):
        if file:
            files[file] = f"{files[file]}\n\n{code}" if file in files else code
    return files


def snippets_of(
    page: str,
    heading: str,  # Of the section
) -> list[str]:
    "Python of a section that belongs to no file."
    text = (repo_root() / page).read_text(encoding="utf-8")
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return [code for language, file, code in BLOCK.findall(section) if language == "python" and not file]


def write_sixth(
    root: Path,  # Folder of papers
) -> None:
    "The paper that CONTRIBUTING.md adds."
    files = files_of("CONTRIBUTING.md")
    cells = {name.partition(": ")[2]: files.pop(name) for name in list(files) if ".ipynb" in name}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    notebook = json.loads((repo_root() / "nbs" / "studies" / "agf.ipynb").read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert code[0]["metadata"]["tags"] == ["parameters"]
    assert "check_parameters(" in "".join(code[1]["source"]) and "import study" in "".join(code[2]["source"])
    code[0]["source"], code[2]["source"] = cells["parameters"], cells["settings"]
    notebook["cells"].remove(code[1])  # knows the studies of the package
    (root / "studies" / "sixth.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
