"""Closed forms: pairs of functions, piecewise polynomials times exponentials, their tails and corners."""
