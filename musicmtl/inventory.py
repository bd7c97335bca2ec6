"""`python -m musicmtl.inventory FOLDER`: the command line of `musicmtl.study.inventory`."""

import sys

from .study.inventory import *
from .study.inventory import main

if __name__ == "__main__":
    sys.exit(main())
