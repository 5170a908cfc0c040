"""symjax: the symmetries of neural-network parameters, as curves, numbers and decisions."""

from . import linalg as linalg

__version__ = "0.1.0"
