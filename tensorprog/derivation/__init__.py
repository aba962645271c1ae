"""The NTK and the NNGP as named equations of a limit, and their numbers on data."""
