"""`python -m musicmtl.report`: the command line of `musicmtl.study.report`."""

import sys

from .study.report import *
from .study.report import main

if __name__ == "__main__":
    sys.exit(main())
