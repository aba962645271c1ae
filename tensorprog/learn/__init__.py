"""Learning with the kernels: regression, classification, training dynamics."""
