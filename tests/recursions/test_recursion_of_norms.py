"""Recursions over depth of networks with norms and attention: printed as layers, and right when read by hand."""

import functools

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.derivation.derivation import Derivation
from tensorprog.derivation.over_positions import over_positions
from tensorprog.limit.evaluate import same
from tensorprog.recursions.folding import unroll

W, B, EPS = sp.symbols("sigma_w sigma_b eps", positive=True)
S_W, S_Q, S_V, E0 = 1.3, 0.7, 1.1, 0.1
ATTENTION = {"tied": {}, "causal": {"causal": True}, "untied": {"tied": False}, "heads": {"heads": 2}}
NUMBERS = {"sigma_w": S_W, "sigma_q": S_Q, "sigma_v": S_V, "eps": E0}


@functools.cache
def transformer(kind, **hyper):
    return tp.programs.transformer(**ATTENTION[kind], **dict(hyper or NUMBERS))


@functools.cache
def recursion(kind, form):
    return tp.ntk(transformer(kind)).recursion(form)


def by_fold(R, x, y, depth):
    """The folded equations at a depth, evaluated as they are."""
    folded, sizes = R._system({"L": depth}, 2)
    poly = unroll(folded, sizes, R._store).poly()
    small = R.kernel._derive()
    d = Derivation(small.trace, small.limit, poly)
    return over_positions(d, x[None], y[None], ((len(x),), (len(y),)), {})[0]


# ---- transformers by hand ------------------------------------------------------------------------------


def v(q, c, r, step):
    """V[relu] and V[step] (Cho and Saul)."""
    scale = np.sqrt(np.outer(q, r))
    angle = np.arccos(np.clip(c / scale, -1, 1))
    return (np.pi - angle) / (2 * np.pi) if step else (scale * np.sin(angle) + (np.pi - angle) * c) / (2 * np.pi)


def weights(own, kind):
    """Softmax of the scores of an input with itself, which are 0 where Q and K are independent."""
    s = np.exp(S_Q**2 * own * (kind != "untied"))
    s = np.tril(s) if kind == "causal" else s
    return s / s.sum(axis=1, keepdims=True)


class Stream:
    """The covariance of the residual stream of two inputs, and of each with itself."""

    def __init__(self, x, y):
        gram = [(x, x), (x, y), (y, y)]
        self.c = [a @ b.T / a.shape[-1] for a, b in gram]

    def scale(self, i):
        """1/(√(v + ε) √(v' + ε)) of a layer norm."""
        first, second = [(0, 0), (0, 2), (2, 2)][i]
        return 1 / np.sqrt(np.outer(np.diag(self.c[first]) + E0, np.diag(self.c[second]) + E0))

    def normed(self):
        return [self.c[i] * self.scale(i) for i in range(3)]


def by_hand(x, y, depth, kind):
    """NNGP and NTK, forward: Θ of the stream after every layer."""
    s = Stream(x, y)
    theta = s.c[1].copy()
    for _ in range(depth):
        rho, scale = s.normed(), s.scale(1)
        a = [weights(rho[0], kind), weights(rho[2], kind)]
        mixed = [a[i] @ rho[k] @ a[j].T for k, (i, j) in enumerate([(0, 0), (0, 1), (1, 1)])]
        theta = theta + 2 * mixed[1] + a[0] @ (theta * scale) @ a[1].T  # O and V are trained; scores bring nothing
        s.c = [c + m for c, m in zip(s.c, mixed, strict=True)]
        rho, scale = [S_W**2 * c for c in s.normed()], S_W**2 * s.scale(1)
        q, r = np.diag(rho[0]), np.diag(rho[2])
        out = [S_W**2 * v(np.diag(rho[i]), c, np.diag(rho[j]), step=False)
               for c, (i, j) in zip(rho, [(0, 0), (0, 2), (2, 2)], strict=True)]  # fmt: skip
        theta = theta + out[1] + S_W**2 * v(q, rho[1], r, step=True) * (rho[1] + scale * theta)
        s.c = [c + o for c, o in zip(s.c, out, strict=True)]
    rho = s.normed()[1]
    return S_V**2 * rho.mean(), S_V**2 * (rho + s.scale(1) * theta).mean()


def check_by_hand(kind, tokens, depths, kernels):
    rng = np.random.default_rng(tokens)
    x, y = rng.normal(size=(tokens, 4)), rng.normal(size=(tokens - 1, 4))
    for depth in depths:
        want = by_hand(x, y, depth, kind)[-len(kernels) :]
        assert [R([x], [y], depth=depth)[0, 0] for R in kernels] == pytest.approx(want, rel=1e-12)
        assert [by_fold(R, x, y, depth) for R in kernels] == pytest.approx(want, rel=1e-12)


def test_recursions_of_transformers_are_those_by_hand():
    check_by_hand("causal", 3, (1, 12), [recursion("causal", "forward")])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ATTENTION)
def test_recursions_of_transformers_are_those_by_hand_for_many_tokens(kind):
    kernels = [tp.nngp(transformer(kind)).recursion(), recursion(kind, "forward")]
    for tokens in (3, 7, 16):
        check_by_hand(kind, tokens, (1, 2, 12), kernels)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["sum", "forward"])
@pytest.mark.parametrize("kind", ATTENTION)
def test_both_forms_are_the_kernel_derived_at_every_depth(kind, form):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(5, 3)), rng.normal(size=(4, 3))
    R = recursion(kind, form)
    assert R.proved == [(("L", n),) for n in (1, 2, 6, 9)] and not R.excluded
    for depth in range(1, 6):
        want = tp.ntk(tp.programs.transformer(depth=depth, **ATTENTION[kind], **NUMBERS))([x], [y])[0, 0]
        assert by_fold(R, x, y, depth) == pytest.approx(want, rel=1e-13)


def test_equations_in_layers_are_compared_with_those_derived_as_they_are():
    K, other = tp.ntk(transformer("tied")), tp.ntk(transformer("causal"))
    direct, layered = K._derive().poly, K._derive_layered(K.net, (None, None)).poly
    assert same(direct, layered)
    assert not same(other._derive().poly, layered) and not same(direct.scale(2), layered)


# ---- as they are printed -------------------------------------------------------------------------------

NORMED = """
  Σ^(1)(x,x')  = σ_w²·⟨x,x'⟩ + σ_b²
  Σ̂^(l)(x,x') = Σ^(l)(x,x')/sqrt((Σ^(l)(x,x) + eps)·(Σ^(l)(x',x') + eps))   (1 ≤ l ≤ L)
  Σ^(l)(x,x')  = σ_w²·V[φ](Σ̂^(l-1)(x,x')) + σ_b²   (2 ≤ l ≤ L)
  Π^(L)(x,x')  = V[φ'](Σ̂^(L)(x,x'))/sqrt((Σ^(L)(x,x) + eps)·(Σ^(L)(x',x') + eps))
  Π^(l)(x,x')  = σ_w²·V[φ'](Σ̂^(l)(x,x'))
                 ·Π^(l+1)(x,x')/sqrt((Σ^(l)(x,x) + eps)·(Σ^(l)(x',x') + eps))   (1 ≤ l ≤ L-1)
  Θ(x,x')      = Σ_(l=1..L) Π^(l)(x,x')·Σ^(l)(x,x') + V[φ](Σ̂^(L)(x,x'))
"""
BLOCK = """
  Σ^(0)(x,x')[p,q]     = ⟨x[p],x'[q]⟩
  Σ̂^(l)(x,x')[p,q]    = Σ^(l)(x,x')[p,q]/sqrt(Σ^(l)(x,x)[p,p]·Σ^(l)(x',x')[q,q])   (0 ≤ l ≤ L)
  a^(l)(x)[p,q]        = exp(Σ̂^(l-1)(x,x)[p,q])/Σ_r exp(Σ̂^(l-1)(x,x)[p,r])   (1 ≤ l ≤ L)
  Σ_y^(l)(x,x')[p,q]   = Σ_(r,s) a^(l)(x)[p,r]·a^(l)(x')[q,s]·Σ̂^(l-1)(x,x')[r,s]   (1 ≤ l ≤ L)
  Σ_Ao^(l)(x,x')[p,q]  = Σ^(l-1)(x,x')[p,q] + Σ_y^(l)(x,x')[p,q]   (1 ≤ l ≤ L)
  Σ̂_Ao^(l)(x,x')[p,q] = Σ_Ao^(l)(x,x')[p,q]/sqrt(Σ_Ao^(l)(x,x)[p,p]·Σ_Ao^(l)(x',x')[q,q])
                         (1 ≤ l ≤ L)
  Σ^(l)(x,x')[p,q]     = Σ_Ao^(l)(x,x')[p,q] + V[relu](Σ̂_Ao^(l)(x,x')[p,q])   (1 ≤ l ≤ L)
  K(x,x')              = 1/(P·P') Σ_(p,q) Σ̂^(L)(x,x')[p,q]
"""


def test_layer_norm_stands_between_the_layers_of_an_mlp():
    net = tp.programs.layer_norm_mlp(phi=tp.abstract("phi"), sigma_w=W, sigma_b=B, eps=EPS)
    text = tp.ntk(net).recursion().text()
    assert NORMED in text and text.endswith("and the same for (x,x) and (x',x')")


def test_a_block_of_a_transformer_reads_like_a_paper():
    R = tp.nngp(tp.programs.transformer()).recursion()
    assert BLOCK in R.text()
    assert R.text().endswith("and the same for (x,x) and (x',x')\nand for x' as for x")
    tex = R.latex()
    assert r"\Sigma_{\mathrm{Ao}}^{(l)}(x,x')[p,q] &= \Sigma^{(l-1)}(x,x')[p,q] + \Sigma_{y}^{(l)}(x,x')[p,q]" in tex
    assert r"\hat{\Sigma}^{(l)}(x,x')[p,q] &= " in tex and r"a^{(l)}(x)[p,q] &= " in tex
    assert tex.count("{") == tex.count("}") and "500" not in tex
    assert len(R.rules) == 17 and str(R.rules[-1][0].lhs) == "K(x,x')"


def test_gradients_run_back_through_a_block():
    text = tp.ntk(tp.programs.transformer()).recursion().text()
    for line in (
        "Π^(L)(x,x')[p,q]     = 1/(P·P'·sqrt(Σ^(L)(x,x)[p,p]·Σ^(L)(x',x')[q,q]))",
        "Π_N^(l)(x,x')[p,q]   = V[step](Σ̂_Ao^(l)(x,x')[p,q])·Π^(l)(x,x')[p,q]   (1 ≤ l ≤ L)",
        "Π_Av^(l)(x,x')[p,q]  = Σ_(r,s) a^(l)(x)[r,p]·a^(l)(x')[s,q]·Π_Ao^(l)(x,x')[r,s]   (1 ≤ l ≤ L)",
        "Σ_(l=1..L) Σ_(p,q) Π_Av^(l)(x,x')[p,q]·Σ̂^(l-1)(x,x')[p,q]",
        "+ Σ_(l=1..L) Σ_(p,q) Π_N^(l)(x,x')[p,q]·Σ̂_Ao^(l)(x,x')[p,q]",
    ):
        assert line in text


# ---- numbers, scales, and networks of all kinds --------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kernel", [tp.nngp, tp.ntk])
def test_normed_networks_without_positions_compile_at_any_depth(kernel):
    rng = np.random.default_rng(2)
    X = rng.normal(size=(4, 3))
    net = tp.programs.layer_norm_mlp(phi=tp.relu, sigma_w=S_W, sigma_b=0.3, eps=E0)
    R = kernel(net).recursion()
    deep = tp.programs.layer_norm_mlp(depth=12, phi=tp.relu, sigma_w=S_W, sigma_b=0.3, eps=E0)
    assert R(X, depth=12) == pytest.approx(kernel(deep)(X), rel=1e-13)


def test_a_scale_that_depends_on_the_depth_is_written_with_it():
    R = tp.nngp(tp.programs.resnet()).recursion()
    assert "Σ^(l-1)(x,x')[p,q] + 1/(|w|·(L - 1)) Σ_k V[relu](Σ^(l-1)(x,x')[p+k,q+k])" in R.text()

    @tp.network
    def stable(net, x, *, depth=3):
        h = net.embed("U", x)
        for l in range(2, depth + 1):
            h = h + net.dense(("W", l), tp.relu(h), std=1 / sp.sqrt(depth))
        return net.readout("V", h)

    X = np.random.default_rng(3).normal(size=(3, 2))
    R = tp.nngp(stable()).recursion()
    assert "V[relu](Σ^(l-1)(x,x'))/L" in R.text()
    for kernel in (tp.nngp, tp.ntk):
        assert kernel(stable()).recursion()(X, depth=30) == pytest.approx(kernel(stable(depth=30))(X), rel=1e-13)


@tp.network
def blocks(net, x, *, depth=2, pieces=(), norm="layer_norm", read="mean"):
    """Residual branches of some kinds, each on a norm of the stream."""
    h = net.embed("U", x)
    for l in range(1, depth + 1):
        for kind, phi in pieces:
            n = getattr(net, norm)(h, E0) if norm else h
            if kind == "attention":
                h = h + net.attention(("A", l), n, tied=phi is tp.relu, causal=phi is tp.erf, std_q=S_Q)
            elif kind == "conv":
                h = h + net.conv(("C", l), phi(n), 3, S_W) / 2
            else:
                h = h + net.dense(("M", l), phi(net.dense(("N", l), n, S_W))) + net.bias(("b", l), 0.3)
    n = getattr(net, norm)(h, E0) if norm else h
    return net.readout("V", net.global_pool(n)) if read == "mean" else net.flatten("V", n)


def check_random(seed):
    rng = np.random.default_rng(seed)
    kinds = rng.permutation(["attention", "conv", "mlp"])[: rng.integers(1, 4)]
    pieces = tuple((str(kind), [tp.relu, tp.erf, tp.abs][rng.integers(3)]) for kind in kinds)
    norm, read = [("layer_norm", "mean"), ("rms_norm", "flatten"), ("layer_norm", "flatten")][rng.integers(3)]
    x, y = rng.normal(size=(2, 4, 3))
    for kernel in (tp.nngp, tp.ntk):
        R = kernel(blocks(pieces=pieces, norm=norm, read=read)).recursion()
        for depth in (3, 7):
            want = kernel(blocks(depth=depth, pieces=pieces, norm=norm, read=read))(x[None], y[None])[0, 0]
            assert by_fold(R, x, y, depth) == pytest.approx(want, rel=1e-13), (pieces, norm, read, depth)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 10))
def test_random_networks_fold(seed):
    check_random(seed)
