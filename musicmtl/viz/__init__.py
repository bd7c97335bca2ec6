"""Figures: functions that take arrays and tables and return Axes."""
from .style import *
