"""Every notebook runs: nbdev_test, in one process, which leaves without IPython's tidying.

At the end IPython would empty the namespace of each of some eighty notebooks, with a garbage collection for each:
that takes as long as ten notebooks do, and the process is about to end anyway.

`python tests/notebooks.py` leaves out what takes long: measurements (nbs/bench) and cells that begin with `#| long`.
`python tests/notebooks.py long` runs those measurements, and the notebooks that have such cells, whole.
"""

import os
import sys

from IPython.core.interactiveshell import InteractiveShell
from nbdev.test import nbdev_test

from musicmtl.core import repo_root

BENCH = "bench"  # Folder of notebooks that measure


def with_long_cells() -> list[str]:
    "Notebooks with a cell that `#| long` marks, relative to nbs."
    folder = repo_root() / "nbs"
    files = sorted(file for file in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in file.parts)
    return [str(file.relative_to(folder)) for file in files if '"#| long' in file.read_text(encoding="utf-8")]


def main(which: str = "short"):
    if cache := os.environ.get("MUSICMTL_TEST_CACHE"):  # that of the tests which run beside it
        os.environ["MUSICMTL_CACHE"] = cache
    InteractiveShell._atexit_once = lambda shell: None
    if which == "short":
        nbdev_test(n_workers=0, timing=True, skip_folder_re=f"^[_.]|^{BENCH}$")
    else:
        nbdev_test(str(repo_root() / "nbs" / BENCH), n_workers=0, timing=True)
        for file in with_long_cells():
            nbdev_test(str(repo_root() / "nbs" / file), flags="long", n_workers=0, timing=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
