"""Kernels that repeat, as recursions in layers, times or diagonals: folded, proved, printed, evaluated at any size."""
