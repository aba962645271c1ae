"""The infinite-width limit: Z random variables, named equations, the Master Theorem."""
