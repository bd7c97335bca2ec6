__version__ = "0.1.0"

from .docstrings import document_on_import

document_on_import(__name__)
