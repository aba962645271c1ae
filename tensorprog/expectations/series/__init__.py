"""Series in ρ: Hermite coefficients, Mehler and Chebyshev, tables in the variance, sums over localised remainders."""
