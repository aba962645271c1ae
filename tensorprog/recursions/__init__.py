"""Kernels that repeat: their equations folded into indexed ones, printed, and evaluated at any size."""
