"""Gram matrices of any size: in memory, on disk, on a device or a cluster; of vectors and of sequences."""
