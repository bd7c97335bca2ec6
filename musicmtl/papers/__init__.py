"""Papers, a folder each. `$MUSICMTL_PAPERS` names further folders of papers, separated like those of `$PATH`."""

import os

__path__ += [folder for folder in os.environ.get("MUSICMTL_PAPERS", "").split(os.pathsep) if folder]
