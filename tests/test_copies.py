"""Every public result survives pickle, cloudpickle and deepcopy, is equal afterwards, and computes the same numbers."""

import copy
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import cloudpickle
import numpy as np
import pytest

import tensorprog as tp
from tensorprog.algebra import Scalar
from tensorprog.dsl.nonlinearities import Nonlinearity
from tensorprog.limit.equations import reachable
from tensorprog.limit.evaluate import fingerprint, numbers
from tensorprog.printing import to_html
from tests.results import RESULTS, C, X, made, program

COPIES = {
    "pickle": lambda result: pickle.loads(pickle.dumps(result)),
    "cloudpickle": lambda result: cloudpickle.loads(cloudpickle.dumps(result)),
    "deepcopy": copy.deepcopy,
}
each_copy = pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)


def told(result):
    """All that a result says of itself."""
    says = [getattr(result, name, None) for name in ("text", "latex")]
    return [repr(result), str(result), to_html(result), *(say() for say in says if callable(say))]


@each_copy
@pytest.mark.parametrize("name", RESULTS)
def test_a_copy_of_a_result_is_equal(name, copied):
    result = made(name)
    other = copied(result)
    assert type(other) is type(result) and told(other) == told(result)


def of_derivation(d):
    """The kernel of ``NET`` where all inner products are 1/2."""
    symbols = {g.symbol for g in reachable([d.poly]) if type(g) is Scalar}
    return numbers([d.poly], dict.fromkeys(symbols, 0.5))[0]


def of_certificate(c):
    return [fingerprint([r.change]) for r in c.rows], [str(e) for e in c.equations]


# name ↦ what a result of that name computes
ANSWERS = {
    "Network": lambda net: tp.ntk(net)(X),
    "Network of sequences": lambda net: tp.nngp(net)(X[:, :, None]),
    "Run": lambda run: run[program()[4]],
    "Limit": lambda limit: limit.evaluate(limit.value(program()[5]), C),
    "SampledLimit": lambda limit: limit.value(program()[5]),
    "AutoLimit": lambda limit: limit.value(program()[5]),
    "Estimate": lambda e: (float(e), e.stderr),
    "Account": lambda a: (a.value, a.error),
    "Kernel": lambda K: K(X),
    "OutputKernels": lambda K: K(X),
    "KernelAccount": lambda a: (a.value, a.error),
    "Recursion": lambda R: (R(X), R.gram(X, depth=9)),
    "SizedKernel": lambda K: tp.gram(K, X),
    "Derivation": of_derivation,
    "Certificate": of_certificate,
    "FeatureLimit": lambda f: (f.kernel(1), f.change(2)),
    "Spectrum": lambda s: s.values,
    "GaussianProcess": lambda g: (g.mean(X @ X.T), g.weights),
    "Dynamics": lambda d: (d.mean(2.0), d.test_cov(0.5)),
}


def same_numbers(ours, theirs):
    if isinstance(ours, (list, tuple)):
        return len(ours) == len(theirs) and all(map(same_numbers, ours, theirs))
    return np.array_equal(ours, theirs)


@each_copy
@pytest.mark.parametrize("name", ANSWERS)
def test_a_copy_computes_the_same_numbers(name, copied):
    ours, theirs = ANSWERS[name](made(name)), ANSWERS[name](copied(made(name)))
    assert same_numbers(ours, theirs)


# ---- generators -------------------------------------------------------------------------------------------


def test_deep_copies_share_generators():
    """A polynomial is known by its generators, so that a copy beside its original must have the same ones."""
    certificate = made("Certificate")
    assert copy.deepcopy(certificate).rows == certificate.rows
    assert copy.deepcopy(made("Derivation")).poly == made("Derivation").poly


YOUNGER = """
import pickle, sys
from tensorprog.algebra import Algebra
from tensorprog.functions import Tanh
from tensorprog.limit.equations import children, reachable
p = pickle.load(sys.stdin.buffer)
q = Algebra().apply(Tanh, (p,)) * p
seen = set()
for g in reachable([q]):
    assert all(h in seen for c in children(g) for m in c.terms for h, _ in m), g
    assert list(p.terms) == [tuple(sorted(m, key=lambda f: f[0].index)) for m in p.terms]
    seen.add(g)
print(len(seen))
"""


def test_generators_in_another_process_are_as_old_as_they_should_be():
    """A generator is younger than what it depends on, also those made there of those that came: one more."""
    p = tp.ntk(tp.programs.mlp(depth=3, phi=tp.tanh))._derive().poly
    done = subprocess.run([sys.executable, "-c", YOUNGER], input=pickle.dumps(p), capture_output=True)
    assert done.returncode == 0 and int(done.stdout) == len(reachable([p])) + 1, done.stderr.decode()


def test_a_certificate_of_many_layers_is_no_depth_of_calls():
    certificate = tp.unroll(tp.programs.mlp(depth=40, phi=tp.relu), steps=1).certify()
    other = COPIES["pickle"](certificate)
    assert len(other.equations) == len(certificate.equations) > 100
    assert of_certificate(other) == of_certificate(certificate)


def test_pickling_an_account_computes_its_error():
    account = RESULTS["Account"][0]()
    assert "error" not in vars(account)
    other = COPIES["pickle"](account)
    assert 0 < other.error == account.error < 1e-12


# ---- networks of functions and notebook cells --------------------------------------------------------------


def local(phi=tp.tanh):
    @tp.network
    def inside(net, x, *, sigma_w=1.5):
        return net.readout("V", phi(net.embed("U", x, std=sigma_w)), bias=0.1)

    return inside(sigma_w=2)


def local_pair():
    @tp.network
    def pair(net, x):
        h = tp.relu(net.embed("U", x))
        return net.readout("V", h), net.readout("W", h)

    return pair()


@pytest.mark.parametrize("make", [local, local_pair, lambda: local(Nonlinearity("cube", lambda x: x**3))])
def test_a_network_defined_in_a_function_is_written_with_its_code(make):
    net = make()
    other = COPIES["cloudpickle"](net)
    assert repr(other) == repr(net) and other.hyperparameters == net.hyperparameters
    assert np.array_equal(tp.nngp(other, outputs=0)(X), tp.nngp(net, outputs=0)(X))
    assert np.array_equal(COPIES["cloudpickle"](tp.ntk(other, outputs=0))(X), tp.ntk(net, outputs=0)(X))
    with pytest.raises((pickle.PicklingError, AttributeError), match="local object"):
        pickle.dumps(net)


CELL = """
import sys, cloudpickle, numpy as np, tensorprog as tp
@tp.network
def cell(net, x, *, phi=tp.relu, sigma_w=1):
    return net.readout("V", tp.tanh(phi(net.embed("U", x, std=sigma_w))))
K = tp.ntk(cell(sigma_w=2))
sys.stdout.buffer.write(cloudpickle.dumps((K, K([[1.0, 0.5]])[0, 0].hex())))
"""


def test_a_network_of_a_notebook_cell_travels():
    """Cells and scripts are the module __main__, which is another one elsewhere."""
    done = subprocess.run([sys.executable, "-c", CELL], capture_output=True)
    kernel, value = pickle.loads(done.stdout)
    assert repr(kernel.net) == "cell(phi=relu, sigma_w=2)" and kernel([[1.0, 0.5]])[0, 0].hex() == value
    assert COPIES["cloudpickle"](kernel.net).hyperparameters == kernel.net.hyperparameters


# ---- pools ------------------------------------------------------------------------------------------------


def words(result):
    """Short and long text; pictures are laid out anew in another process."""
    return told(result)[:2]


def elsewhere(packed):
    """The answers there of what was packed here."""
    return [(words(result), ANSWERS.get(name, words)(result)) for name, result in pickle.loads(packed)]


@pytest.mark.parametrize("method", ["spawn", pytest.param("forkserver", marks=pytest.mark.slow)])
def test_a_process_of_a_pool_answers_the_same(method):
    names = ["Limit", "OutputKernels", "Derivation", "Certificate", "FeatureLimit", "Training"]
    sent = [(name, made(name)) for name in names] + [("Network", local())]
    with ProcessPoolExecutor(1, mp_context=get_context(method)) as pool:
        found = pool.submit(elsewhere, cloudpickle.dumps(sent)).result(timeout=300)
    for (name, result), (said, answer) in zip(sent, found, strict=True):
        assert said == words(result) and same_numbers(ANSWERS.get(name, words)(result), answer), name


@pytest.mark.slow
def test_joblib_takes_networks_of_functions():
    joblib = pytest.importorskip("joblib")
    net = local()
    found = joblib.Parallel(n_jobs=2)(joblib.delayed(lambda n, x: tp.ntk(n)(x))(net, x) for x in (X, X[:2]))
    assert np.array_equal(found[0], tp.ntk(net)(X)) and np.array_equal(found[1], tp.ntk(net)(X[:2]))
