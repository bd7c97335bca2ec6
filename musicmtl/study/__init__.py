"""The study layer: what every study does, written once."""

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
