"""The language: programs, nonlinearities, networks."""
