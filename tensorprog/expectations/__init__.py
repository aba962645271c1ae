"""Gaussian expectations of products of nonlinearities: closed forms, quadrature and their dispatcher."""
