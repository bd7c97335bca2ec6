"""Figures by kind: functions that take arrays and tables and return Axes."""

from .style import *
from .matrices import *
from .curves import *
from .scores import *
from .maps import *
from .networks import *
