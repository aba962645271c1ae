"""Three and more variables: by the structure of their covariance, or by conditioned Sobol points."""
