"""Miniature, a small musical world: rendered to real audio, its truth known."""
from .world import *
