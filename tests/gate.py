"""The gate's first steps: notebooks are clean and formatted, the package and README are what the notebooks say.

Works on a copy, so that a check never changes what it checks.
"""

import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = shutil.ignore_patterns(".*", "runs", "build", "__pycache__", "*.egg-info")


def program(name: str) -> str:
    "A command of this environment."
    return str(Path(sys.executable).with_name(name))


def differing(a: Path, b: Path, pattern: str) -> list[str]:
    "Files below `a` or `b` that match `pattern` and are missing or different in the other."
    found = {file.relative_to(folder) for folder in (a, b) for file in folder.glob(pattern)}
    names = [name for name in found if ".ipynb_checkpoints" not in name.parts]
    same = filecmp.cmpfiles(a, b, names, shallow=False)[0]
    return sorted(str(name) for name in set(names) - set(same))


def unformatted() -> list[str]:
    "Cells and tests that the formatter would change; generated modules are formatted in their notebooks, cell by cell."
    check = [program("ruff"), "format", "--check", "--quiet", "--output-format", "concise", "nbs", "tests"]
    answer = subprocess.run(check, cwd=ROOT, capture_output=True, text=True)
    if answer.returncode and not answer.stdout.strip():
        sys.exit(answer.stderr)
    return answer.stdout.splitlines()


def changed() -> tuple[list[str], list[str]]:
    "Notebooks that cleaning changes, and files that are not what the notebooks make of them."
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "musicmtl"
        shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
        env = {**os.environ, "PYTHONPATH": str(copy)}

        def run(*command):
            subprocess.run(command, cwd=copy, env=env, check=True)

        run(program("nbdev_clean"))
        dirty = differing(ROOT, copy, "nbs/**/*.ipynb")
        run(program("nbdev_export"))
        run(sys.executable, "-m", "musicmtl.report", "--readme")
        return dirty, [*differing(ROOT, copy, "musicmtl/**/*.py"), *differing(ROOT, copy, "README.md")]


def main() -> int:  # Exit status
    "Say what is wrong, a line per file."
    dirty, stale = changed()
    problems = [f"not clean: {name} (run nbdev_clean)" for name in dirty]
    problems += [
        f"out of sync with its notebook: {name} (run nbdev_export, or `python -m musicmtl.report --readme`)"
        for name in stale
    ]
    problems += [f"not formatted: {line} (run ruff format nbs tests)" for line in unformatted()]
    print("\n".join(problems), end="\n" if problems else "")
    subprocess.run([sys.executable, "-m", "musicmtl.report", "--stale"], cwd=ROOT, check=True)  # said, not refused
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
