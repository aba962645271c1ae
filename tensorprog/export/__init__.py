"""Kernels as standalone files of code that import nothing of this package."""
