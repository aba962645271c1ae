"""Kernels by sampling the limit law of all inputs at once."""
