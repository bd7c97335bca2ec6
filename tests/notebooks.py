"""Every notebook runs: nbdev_test, in one process, which leaves without IPython's tidying.

At the end IPython would empty the namespace of each of some eighty notebooks, with a garbage collection for each:
that takes as long as ten notebooks do, and the process is about to end anyway.
"""

import os

from IPython.core.interactiveshell import InteractiveShell
from nbdev.test import nbdev_test


def main():
    if cache := os.environ.get("MUSICMTL_TEST_CACHE"):  # that of the tests which run beside it
        os.environ["MUSICMTL_CACHE"] = cache
    InteractiveShell._atexit_once = lambda shell: None
    nbdev_test(n_workers=0, timing=True)


if __name__ == "__main__":
    main()
