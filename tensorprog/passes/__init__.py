"""Program transformations, one per file: pure, names survive."""
