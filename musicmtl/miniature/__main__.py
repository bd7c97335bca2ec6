"""`python -m musicmtl.miniature --remove FOLDER`: take made-up sound out of a folder."""

import sys

from .render import main

if __name__ == "__main__":
    sys.exit(main())
