"""Quadrature in one and two dimensions: the trapezoid rule, panels between kinks, their nodes."""
