"""Derivations as documents, comparisons of two of them, and claimed formulas put to the test."""
