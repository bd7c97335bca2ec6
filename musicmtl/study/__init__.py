"""The study layer: what every study does, written once.

Its modules are loaded, all together, when the first of their names is asked for. A command line that needs only
`musicmtl.study.runs` answers without torch.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .board import *
    from .claims import *
    from .evidence import *
    from .jobs import *
    from .preparation import *
    from .protocol import *
    from .registry import *
    from .results import *
    from .settings import *
    from .skeleton import *

_PASSED_ON = "board claims evidence jobs preparation protocol registry results settings skeleton".split()


def __getattr__(name):
    if name.startswith("_") and name != "__all__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if find_spec(f"{__name__}.{name}"):
        return import_module(f"{__name__}.{name}")
    found = {}
    for module in (import_module(f"{__name__}.{part}") for part in _PASSED_ON):
        found |= {public: getattr(module, public) for public in module.__all__}
    globals().update(found, __all__=list(found))
    if name not in globals():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return globals()[name]
