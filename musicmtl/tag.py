"""`python -m musicmtl.tag FOLDER --out tags.csv`: the command line of `musicmtl.papers.tagging.library`."""

import sys

from .papers.tagging.library import *
from .papers.tagging.library import main

if __name__ == "__main__":
    sys.exit(main())
