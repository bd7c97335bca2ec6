"""Multi-task self-supervised pre-training for music (PASE workers)."""

from .model import *

STUDIES = {"pase": "musicmtl.papers.pase.figures"}
