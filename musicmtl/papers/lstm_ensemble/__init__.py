"""LSTM ensembles on the Million Song Dataset, with secondary tasks."""

from .data import *
from .model import *

STUDIES = {"lstm_ensemble": "musicmtl.papers.lstm_ensemble.figures"}
