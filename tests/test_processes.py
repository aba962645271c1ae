"""The same numbers from threads at once, under every start of processes, and under the interpreter's options."""

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

import tensorprog as tp

X = np.random.default_rng(0).normal(size=(5, 3))
LIMIT = 120  # seconds, after which a thread or a process is taken to wait for ever


def network(phi=tp.tanh):
    return tp.programs.mlp(depth=2, phi=phi, sigma_b=0.1)


def bits(array):
    return [float(x).hex() for x in np.ravel(array)]


def answers(kernel):
    """K(X) and the compiled Gram matrix."""
    return bits(kernel(X)), bits(kernel.gram(X))


def verdicts(_=None):
    report = tp.verify(network(), X[:2], widths=(16, 32), seeds=2)
    return [(c.name, c.detail) for c in report.claims]


def from_threads(ask, count=4):
    """The answers of threads that start at once."""
    with ThreadPoolExecutor(count) as pool:
        asked = [pool.submit(ask) for _ in range(count)]
        return [a.result(timeout=LIMIT) for a in asked]


@pytest.mark.parametrize("kind", [tp.nngp, tp.ntk])
def test_threads_that_share_a_kernel_get_the_same_bits(kind):
    """Nothing is derived or compiled beforehand, so that threads meet inside derivations."""
    kernel, alone = kind(network()), answers(kind(network()))
    assert from_threads(lambda: answers(kernel)) == [alone] * 4


def test_threads_with_kernels_of_their_own_get_the_same_bits():
    alone = answers(tp.ntk(network(tp.gelu)))
    assert from_threads(lambda: answers(tp.ntk(network(tp.gelu)))) == [alone] * 4


def test_threads_that_share_a_limit_get_the_same_numbers():
    p = tp.Program()
    W, x = p.matrix("W"), p.vector("x")
    y = tp.tanh(W.T @ tp.tanh(W @ x))
    limit = tp.limit(p)
    found = from_threads(lambda: bits(limit.evaluate(limit.E(lambda a, b: a**2 + tp.erf(a) * b, y, x))))
    assert found == [found[0]] * 4


@pytest.mark.slow
def test_threads_verify_as_one_does():
    assert from_threads(verdicts, 3) == [verdicts()] * 3


def of_process(_=None):
    return answers(tp.ntk(network()))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:os.fork.. was called:RuntimeWarning")  # JAX, where other tests imported it
@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_processes_answer_as_their_parent_does(method):
    """The parent has compiled and run threads before it forks."""
    ours = of_process()
    with ProcessPoolExecutor(2, mp_context=get_context(method)) as pool:
        assert list(pool.map(of_process, range(2), timeout=LIMIT)) == [ours] * 2


ALONE = """
import numpy as np, tensorprog as tp
X = np.random.default_rng(0).normal(size=(5, 3))
net = tp.programs.mlp(depth=2, phi=tp.tanh, sigma_b=0.1)
K = tp.ntk(net)
print(K.text())
p = tp.Program()
y = p.matrix("W") @ tp.relu(p.vector("x"))
for x in (K(X), K.gram(X), tp.nngp(net).recursion()(X), tp.sample(p, 8, seeds=2)[y]):
    print([float(e).hex() for e in np.ravel(x)])
"""


def run(*options, **environment):
    done = subprocess.run([sys.executable, *options, "-c", ALONE], capture_output=True, text=True, timeout=LIMIT,
                          env={**os.environ, **environment})  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("options", "environment"),
    [
        ((), {"PYTHONHASHSEED": "1"}),
        (("-O",), {"PYTHONHASHSEED": "2"}),
        pytest.param(("-OO",), {}, marks=pytest.mark.slow),
        pytest.param(("-X", "dev"), {}, marks=pytest.mark.slow),
        pytest.param(("-W", "error::RuntimeWarning"), {}, marks=pytest.mark.slow),
        pytest.param((), {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}, marks=pytest.mark.slow),
        pytest.param((), {"OPENBLAS_NUM_THREADS": "8", "OMP_NUM_THREADS": "8"}, marks=pytest.mark.slow),
    ],
)
def test_options_of_the_interpreter_change_no_bit(options, environment, plain=[]):  # noqa: B006
    if not plain:
        plain.append(run(PYTHONHASHSEED="0"))
    assert run(*options, **environment) == plain[0]
