from .data import *
from .model import *
