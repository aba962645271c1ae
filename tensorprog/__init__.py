"""tensorprog: the infinite-width limit of neural networks, derived from a Python program.

``__init__.pyi`` lists the public names and their homes.
"""

from tensorprog.lazy import front

__version__ = "0.1.0"
__all__ = front(__name__, __file__, shown_by="tensorprog.report")
