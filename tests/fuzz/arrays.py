"""Arrays for kernels: shapes, types and sizes of numbers."""

import numpy as np

import tensorprog as tp
from tests.fuzz.arguments import of_sklearn

KERNELS = [tp.ntk(tp.programs.mlp(depth=1)), tp.nngp(tp.programs.mlp(depth=2, phi=tp.erf)), tp.ntk(tp.programs.rnn()),
           tp.ntk(tp.programs.mlp(depth=1, phi=tp.tanh)), tp.ntk(tp.programs.mlp(depth=2, sigma_b=1))]  # fmt: skip
SIZES = [1.0, 0.0, -1.0, 1e-5, 1e-160, 5e-324, 1e20, 1e100, 1e160, 1.7e308, np.nan, np.inf, -np.inf]
TYPES = [float, int, np.float32, np.float16, np.int8, np.uint8, bool, complex, str, object, "M8[s]", ">f8"]


def array(c):
    """An array of some shape, type and size of numbers, with equal and opposite rows among others."""
    shape = [c.among([2, 1, 3, 0]) for _ in range(c.among([2, 2, 2, 3, 1, 0, 4]))]
    values = np.random.default_rng(c.below(1000)).standard_normal(shape)
    with np.errstate(all="ignore"):
        values = np.round(values, 1) if c.rarely(3) else values
        values = values * c.among(SIZES)
        if c.rarely(3) and np.ndim(values) and len(values) > 1:
            values[-1] = values[0] * c.among([1, -1, 1 + 1e-16, 1e10, 0])
        return np.asarray(values).astype(c.among(TYPES) if c.rarely(3) else float)


def given(c):
    """What is given as data."""
    x = array(c)
    if c.below(2):
        return x
    return c.among(
        [
            x.tolist(),
            [x, x],
            (x, array(c)),
            np.ma.masked_array(x),
            x[..., ::-1] if x.ndim else x,
            np.asfortranarray(x),
            [x],
        ]
    )


def case(c):
    with np.errstate(all="ignore"):
        X, Y, kernel = given(c), given(c), c.among(KERNELS)
    calls = {
        "K(X)": lambda: kernel(X), "K.gram(X)": lambda: kernel.gram(X), "K(X, Y)": lambda: kernel(X, Y),
        "K.gram(X, Y)": lambda: kernel.gram(X, Y), "K.account(X)": lambda: kernel.account(X),
        "float32": lambda: kernel.gram(X, dtype=np.float32), "K.recursion()(X)": lambda: kernel.recursion()(X),
        "empirical": lambda: tp.empirical_ntk(kernel.net, X, width=8),
        "regressor": lambda: of_sklearn(lambda: tp.learn.NTKRegressor(kernel.net).fit(X, Y).predict(X)),
    }  # fmt: skip
    name = c.among(sorted(calls))
    return f"{name} of {kernel!r} at X = {X!r}, Y = {Y!r}", calls[name]
