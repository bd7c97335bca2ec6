from .model import *
from .metric import *
