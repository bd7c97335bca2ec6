"""Multi-task recognition of artist and language."""

from .model import *

STUDIES = {"artist_language": "musicmtl.papers.artist_language.figures"}
