"""`python -m musicmtl.runs STUDY --preset NAME -p NAME VALUE`, `list`, `sweep`, `logs`: the command line of runs."""

import sys

from .study.runs import *
from .study.batch import *  # its `main` is that of all


def __getattr__(name):
    "The names of the study layer, too; they are loaded when one is asked for."
    from . import study

    return getattr(study, name)


if __name__ == "__main__":
    sys.exit(main())
