"""Command lines."""

import contextlib
import io
import os
import tempfile
from pathlib import Path

import numpy as np

from tensorprog.cli import main
from tests.fuzz.odd import TEXTS

NUMBERS = [
    "1",
    "2",
    "0",
    "-1",
    "3",
    "nan",
    "inf",
    "1e999",
    "1e300",
    "1e-300",
    "1/3",
    "1/0",
    "sqrt(2)",
    "sqrt(-1)",
    "x",
    "true",
    "1,2",
    ",",
    "٣",
    "9" * 30,
    "9" * 500,
    "0.1",
    "",
    "sigma_w",
    "1000000",
    "100000000000",
    "e",
    "pi",
    "I",
    "0x10",
]
KEYS = [
    "sigma_w",
    "depth",
    "phi",
    "sigma_b",
    "sigma_v",
    "sigma_u",
    "sigma_h",
    "layers",
    "tied",
    "alpha",
    "",
    "a",
    "net",
    "x",
]
PHI = ["relu", "tanh", "erf", "step", "sign", "exp", "cos", "identity", "gelu", "phi", "psi", "RELU", "1", "nan"]
NETWORKS = ["mlp", "rnn", "deep_linear", "tied_mlp", "residual_mlp", "mean_readout", "tied_autoencoder", "mlpp",
            "net.py", "net.py:f", "net.py:g", "none.py", "/", "", ".py", ":", "bad.py", "exit.py"]  # fmt: skip
FILES = ["x.npy", "wide.npy", "one.npy", "big.npy", "nan.npy", "text.npy", "none.npy", ".", "/dev/null", "", "net.py"]
PARAMETRIZATIONS = ["mup", "ntk", "standard", "a=-1/2,0,1/2;b=1/2,1/2,1/2", "a=1;b=2", ";", "x", "a=1/0", "nan"]
FILE = """import tensorprog as tp
@tp.network
def f(net, x, *, depth=2, sigma_w=1):
    for l in range(depth):
        x = tp.tanh(net.dense(("W", l), x, std=sigma_w) if l else net.embed("U", x))
    return net.readout("V", x)
"""


def world(folder):
    """The files that command lines name."""
    (folder / "net.py").write_text(FILE)
    (folder / "bad.py").write_text("1/0")
    (folder / "exit.py").write_text("raise SystemExit(3)")
    rng = np.random.default_rng(0)
    arrays = {"x": rng.normal(size=(3, 2)), "wide": rng.normal(size=(2, 3, 2)), "one": np.array(3.0),
              "nan": np.full((2, 2), np.nan), "text": np.array(["a"])}  # fmt: skip
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    data = (folder / "x.npy").read_bytes()
    (folder / "big.npy").write_bytes(data.replace(b"(3, 2)", b"(99999999, 2)").replace(b" " * 7 + b"\n", b"\n"))


def options(c, command):
    """Options of a command with values, some of them odd."""

    def number():
        return c.among(NUMBERS)

    def steps():
        given = number()
        return "2" if given == "1000000" else given  # a million steps take minutes, as they are asked to

    common = [lambda: ["-p", f"{c.among(KEYS)}={number()}"], lambda: ["-p", f"phi={c.among(PHI)}"],
              lambda: ["--lengths", c.among(["2,1", "2", "0", "1000000000,2", "100,100", number()])]]  # fmt: skip
    data = [
        *(lambda o=o: [o, number()] for o in ("--inputs", "--dim", "--data-seed", "--seeds")),
        lambda: ["--data", c.among(FILES)],
        lambda: ["--widths", c.among(["8,16,32", "0,8", "8,99999999", number()])],
        lambda: ["--out", c.among(["out", "x.npy", "/dev/null/a", ""])],
    ]
    own = {
        "derive": [
            lambda: ["--kernel", c.among(["ntk", "nngp", "x"])],
            lambda: ["--latex"],
            lambda: ["--method", c.among(["backprop", "paths", "sgd", "enumeration", "x"])],
        ],
        "verify": [*data, lambda: ["--report", c.among(["r.html", "r.png", "/r/r.html", ""])]],
        "train": [
            *data,
            lambda: ["--steps", steps()],
            *(lambda o=o: [o, number()] for o in ("--lr", "--momentum", "--weight-decay", "--batch")),
            *(lambda o=o: [o, number()] for o in ("--lr-exponent", "--samples")),
            lambda: ["--loss", c.among(["mse", "logistic", "x", ""])],
            lambda: ["--trainable", c.among(["U", "V", "W2,V", "", ",", "x"])],
            lambda: ["--labels", c.among(FILES)],
            lambda: ["--parametrization", c.among(PARAMETRIZATIONS)],
            lambda: ["--method", c.among(["auto", "linear", "quadrature", "sampling", "x"])],
        ],
        "draw": [
            lambda: ["--inputs", number()],
            lambda: ["--backprop"],
            lambda: ["--sgd", c.among(["1", "2", number()])],
            lambda: ["--path", c.among(["U", "V:1", "W2:0", ":", "U:" + number()])],
            lambda: ["--highlight", c.among(["x", "W2(x)", ""])],
            lambda: ["-o", c.among(["a.svg", "a.tex", "a.pdf", "a.png", "a.x", "", "no/a.svg", "\0.svg"])],
        ],
        "gallery": [
            lambda: ["--markdown"],
            lambda: ["--html"],
            lambda: ["--write", c.among(["no.md", ".", ""])],
        ],
        "list": [lambda: ["x"]],
    }
    return own[command] + (common if command not in ("list", "gallery") else [])


def line(c):
    """The words of a command."""
    command = c.among(["derive", "derive", "draw", "train", "verify", "gallery", "list"])
    words = [command]
    if command != "list":
        words.append(c.among(NETWORKS) if c.rarely(3) else c.among(NETWORKS[:7]))
    if command == "gallery":
        words[1:] = [c.among(NETWORKS[7:])]  # all others take minutes
    if command in ("verify", "train"):
        words += [
            "--widths",
            "8,16,32",
            "--seeds",
            "2",
            "--inputs",
            "2",
            "--dim",
            "2",
            *(["--steps", "1"] * (command == "train")),
        ]
    choices = options(c, command)
    for _ in range(c.below(4)):
        words += c.among(choices)()
    if c.rarely(12):
        words.insert(c.below(len(words) + 1), c.among([*TEXTS, "--", "-h", "--version", "-p", "--x"]))
    return words


def case(c):
    words = line(c)
    return repr(words), lambda: run(words)


def run(words):
    """The command in a folder of its own."""
    before, silent = Path.cwd(), io.StringIO()
    with tempfile.TemporaryDirectory() as folder:
        world(Path(folder))
        os.chdir(folder)
        try:
            with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
                code = main(words)
            assert code in (0, 1, 2), f"exit status {code}"
        except SystemExit as stop:  # argparse's own
            assert stop.code in (0, 2), f"exit status {stop.code}"
        finally:
            os.chdir(before)
        assert "Traceback" not in silent.getvalue()
