"""The angle of two variables, carried beside their covariance: |ρ| near 1 keeps all digits."""
