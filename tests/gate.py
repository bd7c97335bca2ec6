"""The first two steps of the gate: notebooks are clean, and the package and README are what the notebooks say.

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


def differing(a: Path, b: Path, pattern: str) -> list[str]:
    "Files below `a` or `b` that match `pattern` and are missing or different in the other."
    names = {p.relative_to(d) for d in (a, b) for p in d.glob(pattern) if ".ipynb_checkpoints" not in p.parts}
    return sorted(
        str(n)
        for n in names
        if not ((a / n).exists() and (b / n).exists() and filecmp.cmp(a / n, b / n, shallow=False))
    )


def main() -> int:
    with tempfile.TemporaryDirectory() as tmp:
        copy = Path(tmp) / "musicmtl"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".venv", "runs", ".git", "__pycache__", "*.egg-info"))
        env = {**os.environ, "PYTHONPATH": str(copy)}

        def nbdev(cmd):
            subprocess.run([str(Path(sys.executable).with_name(cmd))], cwd=copy, env=env, check=True)

        nbdev("nbdev_clean")
        dirty = differing(ROOT, copy, "nbs/**/*.ipynb")
        nbdev("nbdev_export")
        stale = differing(ROOT, copy, "musicmtl/**/*.py")
        subprocess.run([sys.executable, "-m", "musicmtl.report", "--readme"], cwd=copy, env=env, check=True)
        stale += differing(ROOT, copy, "README.md")
    for n in dirty:
        print(f"not clean: {n} (run nbdev_clean)")
    for n in stale:
        print(f"out of sync with its notebook: {n} (run nbdev_export, and `python -m musicmtl.report --readme`)")
    return bool(dirty or stale)


if __name__ == "__main__":
    sys.exit(main())
