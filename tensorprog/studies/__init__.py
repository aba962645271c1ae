"""The experiments of the source papers, each in one call, for any network: numbers, verdicts, a picture, a page."""

from tensorprog.lazy import front

__all__ = front(__name__, __file__)
