"""How kernels print: lines of terms, and the legend of what they mean."""
