"""Gram matrices by compiled kernels: in memory, on disk, on devices and on clusters."""
