"""`python -m musicmtl.runs STUDY --preset NAME -p NAME VALUE`: the command line of `musicmtl.study.runs`."""

import sys

from .study import *
from .study.runs import *
from .study.runs import main

if __name__ == "__main__":
    sys.exit(main())
