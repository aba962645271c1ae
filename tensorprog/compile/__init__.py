"""Kernels as tapes of array operations, and the machines that run them on data."""
