"""Music auto-tagging: multi-label classification and metric learning."""

from .metric import *
from .model import *
from .tagger import *

STUDIES = {"tagging": "musicmtl.papers.tagging.figures"}
