"""Balanced multi-task learning of artist group factors."""

from .model import *

STUDIES = {"agf": "musicmtl.papers.agf.figures", "agf_truth": "musicmtl.papers.agf.truth"}
