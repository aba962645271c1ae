"""What folds and what does not: ranges, rewriting, the proof at larger sizes, and clear errors."""

import functools
import time
from dataclasses import replace

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.kernels.recursion import Recursion
from tensorprog.limit.evaluate import same
from tensorprog.recursions.folding import fold, unroll
from tensorprog.recursions.ranges import Bound, Box, cover, shift_between
from tensorprog.recursions.rewrite import forward, tidy, transpose
from tensorprog.recursions.straight import Store, read

X = np.random.default_rng(0).standard_normal((2, 3))


@tp.network
def alternating(net, x, *, depth=3):
    h = net.embed("U", x)
    for l in range(2, depth + 1):
        h = net.dense(("W", l), (tp.relu, tp.erf)[l % 2](h))
    return net.readout("V", tp.relu(h))


@tp.network
def growing(net, x, *, depth=3):
    h = net.embed("U", x)
    for l in range(2, depth + 1):
        h = net.dense(("W", l), tp.relu(h), std=l)
    return net.readout("V", tp.relu(h))


@tp.network
def scaled(net, x, *, depth=3):
    h = net.embed("U", x)
    for l in range(2, depth + 1):
        h = h + net.dense(("W", l), tp.relu(h), std=sp.Rational(1, 2**depth))
    return net.readout("V", tp.relu(h))


@tp.network
def injected(net, x, *, layers=3, phi=tp.erf):
    """The input enters every layer."""
    u = h = net.embed("U", x)
    for _ in range(2, layers + 1):
        h = net.dense("W", phi(h), std=1.1) + u
    return net.readout("V", phi(h))


@tp.network
def two_sublayers(net, x, *, depth=3, phi=tp.erf):
    h = net.embed("U", x)
    for l in range(2, depth + 1):
        inner = net.dense(("A", l), phi(h), std=1.3) + net.bias(("c", l), std=0.3)
        h = h + 0.5 * net.dense(("B", l), phi(inner))
    return net.readout("V", phi(h), bias=0.7)


# ---- what does not fold --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "shown"),
    [
        (alternating, [r"Σ^(4)(x,x) = V[relu](Σ^(3)(x,x))", r"Σ^(5)(x,x) = V[erf](Σ^(4)(x,x))"]),
        (growing, ["Σ^(4)(x,x) = 16*V[relu](Σ^(3)(x,x))", "Σ^(5)(x,x) = 25*V[relu](Σ^(4)(x,x))"]),
        (scaled, ["at L = 3: Σ^(2)(x,x) = V[relu](Σ^(1)(x,x))/64", "at L = 4: Σ^(2)(x,x) = V[relu](Σ^(1)(x,x))/256"]),
    ],
)
def test_a_network_that_does_not_repeat_explains_itself(build, shown):
    with pytest.raises(tp.FoldError, match="do not repeat with an index shift") as error:
        tp.ntk(build()).recursion()
    assert all(equation in str(error.value) for equation in shown)


def test_one_value_per_layer_fits_no_other_depth():
    with pytest.raises(tp.FoldError, match=r"mlp cannot be built with L = 6: sigma_w has 3 values for 6 layers"):
        tp.ntk(tp.programs.mlp(sigma_w=[1, 2, 1])).recursion()


def test_a_network_without_a_size_has_no_recursion():
    with pytest.raises(tp.FoldError, match="has no size to fold over"):
        tp.ntk(tp.programs.tied_autoencoder()).recursion()


@pytest.mark.parametrize(
    ("kernel", "arguments", "message"),
    [
        (tp.ntk(tp.programs.mlp()), {"form": "backward"}, "unknown form 'backward'"),
        (tp.nngp(tp.programs.mlp()), {"form": "sum"}, "NNGP kernel has one form"),
        (tp.ntk(tp.programs.mlp()), {"over": "lengths"}, "mlp has no size 'lengths'"),
        (tp.ntk(tp.programs.rnn()), {"over": ["depth"]}, "rnn has no size 'depth'; .*known: layers, lengths|known: "),
    ],
)
def test_bad_options_are_named(kernel, arguments, message):
    with pytest.raises(tp.ProgramError, match=message):
        kernel.recursion(**arguments)


def test_bad_sizes_are_named():
    R = tp.ntk(tp.programs.mlp()).recursion()
    with pytest.raises(tp.ProgramError, match="no size 'layers'; .*depth"):
        R(X, layers=3)
    for depth in (0, -1, 2.5, True):
        with pytest.raises(tp.ProgramError, match="depth must be a positive integer"):
            R(X, depth=depth)
    with pytest.raises(tp.DataError, match="feature dimension"):
        R(X, np.ones((2, 5)))


def test_lengths_that_were_not_varied_are_fixed():
    R = tp.ntk(tp.programs.rnn(phi=tp.erf), lengths=(2, 1)).recursion(over="layers")
    x, y = np.ones((1, 2, 2)), np.ones((1, 1, 2))
    expected = tp.ntk(tp.programs.rnn(layers=5, phi=tp.erf))(x, y)
    np.testing.assert_allclose(R(x, y, layers=5), expected, rtol=1e-12)
    with pytest.raises(tp.ProgramError, match=r"folded over layers only, at lengths \(2, 1\); the data have \(1, 2\)"):
        R(y, x, layers=5)


# ---- what does -----------------------------------------------------------------------------------


@functools.cache
def recursion(build, form):
    return tp.ntk(build()).recursion(form)


@pytest.mark.parametrize(("build", "name", "sizes"), [(injected, "layers", (1, 7)), (two_sublayers, "depth", (2, 7))])
@pytest.mark.parametrize("form", ["sum", "forward"])
def test_networks_of_users_fold(build, name, sizes, form):
    R = recursion(build, form)
    for size in sizes:
        np.testing.assert_allclose(R(X, **{name: size}), tp.ntk(build(**{name: size}))(X), rtol=1e-12)


def test_sizes_below_the_first_that_folds_are_refused():
    R = recursion(two_sublayers, "sum")
    assert R.excluded == {(("L", 1),)}
    with pytest.raises(tp.ProgramError, match="does not hold at L = 1 and below"):
        R(X, depth=1)


def test_the_kernel_without_gradient_independence_folds_as_well_as_the_one_assuming_it():
    K = tp.ntk(tp.programs.mean_readout())
    right, wrong = K.recursion(), K.under_gia.recursion()
    deep = tp.ntk(tp.programs.mean_readout(depth=6))
    np.testing.assert_allclose(right(X, depth=6), deep(X), rtol=1e-12)
    np.testing.assert_allclose(wrong(X, depth=6), deep.under_gia(X), rtol=1e-12)
    assert abs(right(X, depth=6) / wrong(X, depth=6) - 1).max() > 1e-2


def test_the_sizes_of_the_proof_are_kept():
    R = tp.ntk(tp.programs.mlp()).recursion()
    assert R.proved == [(("L", 1),), (("L", 2),), (("L", 6),), (("L", 9),)] and not R.excluded


# ---- the proof -----------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["Σ", "Π"])
def test_a_changed_equation_is_caught(head):
    R = tp.ntk(tp.programs.mlp(sigma_b=0.3)).recursion()
    place = next(i for i, c in enumerate(R._folded.cases) if c.family.head == head and c.box.lower != c.box.upper)
    case = R._folded.cases[place]
    wrong = replace(R._folded, cases=[*R._folded.cases])
    wrong.cases[place] = replace(case, form=case.form.scale(2))
    R._prove(R._folded)
    with pytest.raises(tp.FoldError, match=rf"at L = 6 the fold gives {head}\^.*derived is"):
        R._prove(wrong)


def test_a_changed_range_is_caught():
    R = tp.ntk(tp.programs.mlp()).recursion()
    (term,) = [c for c in R._folded.terms if c.family.head == "Π"]
    short = replace(term, box=replace(term.box, lower=(Bound("", 2),)))
    wrong = replace(R._folded, terms=[c if c is not term else short for c in R._folded.terms])
    with pytest.raises(tp.FoldError, match=r"at L = 6 .*Σ\^\(1\)"):
        R._prove(wrong)


def test_a_fold_from_one_size_is_caught_at_another(monkeypatch):
    """From L = 3 alone every bound looks constant."""
    monkeypatch.setattr("tensorprog.recursions.folded.Over.examples", lambda self, inputs: [(("L", 3),)])
    with pytest.raises(tp.FoldError, match="at L = 6 "):
        tp.ntk(tp.programs.mlp()).recursion()


def test_a_wrong_kernel_is_caught_even_if_its_equations_are_derived_alike(monkeypatch):
    """The value is compared with the kernel's own derivation too, which rewriting never touched."""
    honest = Recursion._straight

    def doubled(self, *arguments):
        system = honest(self, *arguments)
        return replace(system, kernel=system.kernel.scale(2))

    monkeypatch.setattr(Recursion, "_straight", doubled)
    with pytest.raises(tp.FoldError, match="do not give the kernel at L = 6"):
        tp.ntk(tp.programs.mlp()).recursion()


# ---- rewriting -----------------------------------------------------------------------------------

NETS = [
    tp.programs.mlp(depth=4, phi=tp.abstract("phi"), sigma_b=sp.Symbol("b", positive=True)),
    tp.programs.residual_mlp(depth=4, phi=tp.abstract("phi"), alpha=sp.Rational(1, 3)),
    tp.programs.deep_linear(depth=4),
    tp.programs.mean_readout(depth=4, phi=tp.abstract("phi")),
    tp.programs.rnn(layers=2, phi=tp.abstract("phi"), sigma_h=1),
    two_sublayers(depth=3, phi=tp.abstract("phi")),
]


@pytest.mark.parametrize("net", NETS, ids=lambda n: n.name)
def test_rewriting_changes_no_value(net):
    K, store = tp.ntk(net), Store()
    system = read(K._derive_straight(net, K.lengths), store)
    onward = forward(system, store)
    summed = tidy(transpose(onward, store), store)
    value = K._derive().poly
    assert all(same(value, s.poly()) for s in (system, onward, summed))
    assert {r.family.head for r in onward.linear} == {"Θ"} and {r.family.head for r in summed.linear} == {"Π"}


def test_folding_and_unrolling_is_the_identity():
    store = Store()
    systems = {}
    for depth in (3, 4, 5):
        K = tp.ntk(tp.programs.mlp(depth=depth))
        systems[(("L", depth),)] = forward(read(K._derive_straight(K.net, K.lengths), store), store)
    folded = fold(systems, store)
    for sizes, system in systems.items():
        again = unroll(folded, dict(sizes), store)
        assert again.equations == system.equations and again.kernel == system.kernel


# ---- ranges --------------------------------------------------------------------------------------


def points(*ranges):
    return frozenset(p for p in Box(*zip(*((Bound("", a), Bound("", b)) for a, b in ranges), strict=True)).points({}))


def sized(**sets):
    return {(("L", int(k[1:])),): found for k, found in sets.items()}


def test_boxes_are_found_from_examples():
    one = cover(sized(L3=points((2, 3)), L4=points((2, 4)), L5=points((2, 5))))
    assert one == [Box((Bound("", 2),), (Bound("L", 0),))]
    two = cover(sized(L3=points((1, 3), (3, 3)), L4=points((1, 4), (4, 4)), L5=points((1, 5), (5, 5))))
    assert two == [Box((Bound("", 1), Bound("L", 0)), (Bound("L", 0), Bound("L", 0)))]


def test_faces_and_triangles_are_covered():
    corner = {s: points((1, s), (1, 1)) | points((1, 1), (1, s)) for s in (3, 4, 5)}
    boxes = cover(sized(**{f"L{s}": found for s, found in corner.items()}))
    assert len(boxes) == 2
    for s in (3, 4, 8):
        expected = points((1, s), (1, 1)) | points((1, 1), (1, s))
        assert sorted(p for b in boxes for p in b.points({"L": s})) == sorted(expected)
    triangle = {f"L{s}": frozenset((i, j) for i in range(1, s) for j in range(i + 1, s + 1)) for s in (3, 4, 5)}
    assert cover(sized(**triangle)) == [Box((Bound("", 1), Bound("", 1, 0)), (Bound("L", -1), Bound("L", 0)))]


def test_a_set_with_holes_is_no_range():
    odd = {f"L{s}": frozenset((i,) for i in range(1, s + 1, 2)) for s in (7, 8, 9, 10)}
    assert cover(sized(**odd)) is None


def test_shifts_between_coordinates():
    times = {(("T", 4), ("T'", 2)): {(3, 1), (4, 2)}, (("T", 2), ("T'", 3)): {(1, 2), (2, 3)}}
    assert shift_between(times) == Bound("tau", 0)
    assert shift_between({(("L", 3),): {(2, 3)}, (("L", 4),): {(2, 3), (3, 4)}}) == Bound("", 1)
    assert shift_between({(("L", 3),): {(1, 1), (1, 2)}}) is None


def test_equations_that_grow_with_depth_are_refused_at_once():
    """zᵏ = Wᵀφ(W zᵏ⁻¹ + b): by Ż every layer stands inside the functions of all later ones."""

    @tp.network
    def again(net, x, *, depth=2, phi=tp.relu):
        W, z = net.weight("W"), net.embed("U", x)
        for _ in range(depth):
            z = W.T @ phi(W @ z + net.bias("b"))
        return net.readout("V", phi(z))

    for kernel in (tp.nngp(again(phi=tp.abstract("phi"))), tp.ntk(again())):
        start = time.process_time()
        with pytest.raises(tp.FoldError, match=r"more and more variables, \d+ at L = 3, \d+ at L = 4, \d+ at L = 5"):
            kernel.recursion()
        assert time.process_time() - start < 20
