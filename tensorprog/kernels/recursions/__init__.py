"""Kernels that repeat, as recursions in layers, times or diagonals: folded, checked, printed, evaluated at any size."""
