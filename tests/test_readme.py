"Every snippet of README runs as it stands and prints what stands below it; its commands are there."

import io
import re
import runpy
import shlex
import subprocess
import sys
from contextlib import redirect_stdout
from functools import cache

import pytest

from musicmtl.core import repo_root

ROOT = repo_root()
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```\n+^```text\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = {
    line.partition("#")[0].strip()
    for block in re.findall(r"^```\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    for line in block.splitlines()
    if line.startswith("make ")
} | {found.partition("(")[0].strip() for found in re.findall(r"`((?:make|python -m musicmtl\.)[^`\n]*)`", TEXT)}


def test_each_part_has_a_snippet_with_its_output():
    assert len(SNIPPETS) == TEXT.count("```python") == 4


@pytest.mark.parametrize("code, printed", SNIPPETS, ids=["gradnorm", "features", "tags", "embeddings"])
def test_a_snippet_prints_what_stands_below_it(code, printed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with redirect_stdout(io.StringIO()) as shown:
        exec(compile(code, "README", "exec"), {"__name__": "__main__"})
    assert shown.getvalue() == printed


@cache
def helped(module, *words):
    "What a module says when it is asked for help."
    with (
        redirect_stdout(io.StringIO()) as shown,
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(SystemExit) as left,
    ):
        patch.setattr(sys, "argv", [module, *words, "--help"])
        patch.delitem(sys.modules, module, raising=False)
        runpy.run_module(module, run_name="__main__")
    assert not left.value.code
    return shown.getvalue()


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_a_command_is_there(command):
    words = shlex.split(command)
    if words[0] == "make":
        made = subprocess.run(["make", "-n", *words[1:]], capture_output=True, text=True, cwd=ROOT)
        assert made.returncode == 0, made.stderr
        return
    module, arguments = words[2], words[3:]
    assert helped(module, *arguments[: "sweep" in arguments])
    shown = helped(module)
    assert all(flag in shown for flag in arguments if flag.startswith("--"))


@pytest.mark.long
def test_the_first_look_prints_what_readme_shows(tmp_path, monkeypatch):
    "But for what a machine takes, and where its files lie."
    (shown,) = re.findall(r"^```text\n(agf: preset smoke\n.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    monkeypatch.setenv("MUSICMTL_RUNS", str(tmp_path / "runs"))
    command = [sys.executable, "-m", "musicmtl.runs", "agf", "--preset", "smoke"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert found.returncode == 0, found.stderr

    def words(text):
        return re.sub(r"\S*runs/agf", "runs/agf", re.sub(r"\d[\d.]*(?= s\b)|0\.\d+", "…", text)).split()

    assert words(found.stdout) == words(shown)
