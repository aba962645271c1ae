"""Runs standalone files in a process where tensorprog cannot be imported: ``python run_files.py FOLDER LANGUAGE``.

FOLDER holds ``name.py`` and ``inputs.pickle``, {name: (function, [(x1, x2), ..])}; results go to ``results.pickle``,
numbers or the words of a ValueError.
"""

import importlib
import pickle
import runpy
import sys
from pathlib import Path

import numpy as np


def arrays(language):
    """What turns an array into one of the language, and back into a number."""
    if language == "numpy":
        return np.asarray, float
    if language == "torch":
        torch = importlib.import_module("torch")
        return lambda x: torch.tensor(np.asarray(x)), lambda v: float(v.detach())
    jax = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", True)
    return jax.numpy.asarray, float


def answer(f, number, x, y):
    """The number, or why there is none."""
    try:
        return number(f(x, y))
    except ValueError as error:
        return str(error)


def main(folder, language):
    given = pickle.loads((folder / "inputs.pickle").read_bytes())
    make, number = arrays(language)

    def of(x):
        return {k: make(v) for k, v in x.items()} if isinstance(x, dict) else make(x)

    found = {}
    for name, (function, pairs) in given.items():
        f = runpy.run_path(str(folder / f"{name}.py"))[function]
        found[name] = [answer(f, number, of(x), of(y)) for x, y in pairs]
    (folder / "results.pickle").write_bytes(pickle.dumps(found))


if __name__ == "__main__":
    sys.modules["tensorprog"] = None  # whoever imports it gets an ImportError
    main(Path(sys.argv[1]), sys.argv[2])
