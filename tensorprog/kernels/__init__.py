"""NNGP and NTK of a network as named equations, by backpropagation and by path sums."""
