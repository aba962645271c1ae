"""Kernels of all inputs at once by sampling."""
