"""Training inside a program: SGD unrolled, its certificate, what the theorem asks for, and its limits."""
