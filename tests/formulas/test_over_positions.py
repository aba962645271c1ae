"""Formulas of networks over positions: what they say, with the indices of a paper."""

import re

import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.formulas.spelling import Windows, count, offsets, read_by, reads
from tensorprog.formulas.typeset import TEX, TEXT
from tensorprog.ir.axes import Axes, Window

W, B = sp.symbols("sigma_w sigma_b", positive=True)


@tp.network
def conv_net(net, x, *, depth=2, phi=tp.relu, kernel=(3, 3), padding="same", stride=1, pool="global"):
    h = net.conv("U", x, kernel, std=W, padding=padding, stride=stride) + net.bias("b1", std=B)
    for l in range(2, depth + 1):
        z = net.conv(("W", l), phi(h), kernel, std=W, padding=padding, stride=stride)
        h = z + net.bias(("b", l), std=B)
    return net.readout("V", net.global_pool(phi(h))) if pool == "global" else net.flatten("V", phi(h))


@tp.network
def mixed(net, x, *, phi=tp.relu):
    h = net.avg_pool(phi(net.conv("U", x, (3, 3), std=W)), 2)
    h = phi(net.conv(("W", 2), h, 5, std=W, padding="circular", dilation=2))
    h = phi(net.local(("W", 3), h, 3, std=W, stride=2))
    return net.readout("V", phi(net.dense(("W", 4), net.global_pool(h), std=W)))


def equations(K):
    """Left sides and right sides of the lines of a text."""
    body = K.text().split("\n\n", 1)[1]
    joined = re.sub(r"\n {6,}", " ", body)
    return dict(re.split(r"\s+=\s", line.strip(), maxsplit=1) for line in joined.splitlines() if " = " in line)


def test_the_nngp_kernel_of_a_3x3_net_is_written_as_on_paper():
    found = equations(tp.nngp(conv_net()))
    assert found["Σ^(1)(x,x')[p,q]"] == "σ_w²/9 Σ_k ⟨x[p+k],x'[q+k]⟩ + σ_b²"
    assert found["Σ^(1)(x,x)[p,p]"] == "σ_w²/9 Σ_k ⟨x[p+k],x[p+k]⟩ + σ_b²"
    assert found["Σ^(1)(x',x')[q,q]"] == "σ_w²/9 Σ_k ⟨x'[q+k],x'[q+k]⟩ + σ_b²"
    assert found["Σ^(2)(x,x')[p,q]"] == "σ_w²/9 Σ_k V[relu](Σ^(1)(x,x')[p+k,q+k]) + σ_b²"
    assert found["K(x,x')"] == "1/(P·P') Σ_(p,q) V[relu](Σ^(2)(x,x')[p,q])"
    assert len(found) == 7


def test_the_ntk_sums_gradients_over_pairs_of_positions_by_transposed_windows():
    found = equations(tp.ntk(conv_net()))
    assert found["Π^(2)(x,x')[p,q]"] == "1/(P·P')·V[step](Σ^(2)(x,x')[p,q])"
    assert found["Π^(1)(x,x')[p,q]"] == "σ_w²/9·V[step](Σ^(1)(x,x')[p,q])·Σ_k Π^(2)(x,x')[p-k,q-k]"
    assert found["Θ(x,x')"] == (
        "Σ_(p,q) Π^(1)(x,x')[p,q]·Σ^(1)(x,x')[p,q] + Σ_(p,q) Π^(2)(x,x')[p,q]·Σ^(2)(x,x')[p,q] "
        "+ 1/(P·P') Σ_(p,q) V[relu](Σ^(2)(x,x')[p,q])"
    )
    assert not any("^(0)" in name for name in found)


def test_flattening_asks_for_equal_positions():
    found = equations(tp.ntk(conv_net(pool="flatten")))
    assert found["Π^(2)(x,x')[p,q]"] == "1/P·V[step](Σ^(2)(x,x')[p,q])·δ[p,q]"
    assert found["Θ(x,x')"].endswith("+ 1/P Σ_p V[relu](Σ^(2)(x,x')[p,p])")
    assert "δ[p,q] = 1 where p = q, else 0" in tp.ntk(conv_net(pool="flatten")).text()


def test_strides_dilations_and_windows_of_several_kinds_stand_in_the_indices():
    found = equations(tp.ntk(mixed()))
    assert found["Σ^(2)(x,x)[p,p]"] == ("σ_w²/(25·4²) Σ_(k∈w3) Σ_(j,i∈w2) V[relu](Σ^(1)(x,x)[2(p+2k)+j,2(p+2k)+i])")
    assert found["Σ^(3)(x,x')[p,q]"] == "σ_w²/9·δ[p,q]·Σ_(k∈w1) V[relu](Σ^(2)(x,x')[2p+k,2q+k])"
    assert found["Σ^(3)(x,x)[p,p]"] == "σ_w²/9 Σ_(k∈w1) V[relu](Σ^(2)(x,x)[2p+k,2p+k])"
    assert found["Σ^(4)(x,x')"] == "σ_w²/(P·P') Σ_(p,q) V[relu](Σ^(3)(x,x')[p,q])"
    assert found["Σ^(4)(x,x)"] == "σ_w²/P² Σ_(p,q) V[relu](Σ^(3)(x,x)[p,q])"
    assert found["Π^(2)(x,x')[p,q]"].endswith("·δ[p,q]·Σ_(k∈w1) Π^(3)(x,x')[(p-k)/2,(q-k)/2]")


@pytest.mark.parametrize(
    "padding, said",
    [
        ("same", "terms outside are left out"),
        ("circular", "positions count modulo the sizes"),
        ("valid", "windows lie inside, and terms outside are left out"),
    ],
)
def test_the_legend_says_once_what_stands_beyond_the_border(padding, said):
    K = tp.ntk(conv_net(padding=padding))
    assert K.text().splitlines().count(said) == 1
    assert said in K.latex()


def test_a_kernel_of_one_number_does_not_say_how_many_axes_there_are():
    K = tp.nngp(conv_net(kernel=3))
    assert equations(K)["Σ^(2)(x,x')[p,q]"] == "σ_w²/|w| Σ_k V[relu](Σ^(1)(x,x')[p+k,q+k]) + σ_b²"
    assert "k in w = {-1,0,1} along each axis (|w| = 3 in one dimension, 9 in two)" in K.text()
    assert "|" not in equations(tp.nngp(mixed()))["Σ^(2)(x,x)[p,p]"]  # where another layer says it, it is known


def test_latex_writes_what_differs_in_arguments_and_positions_once():
    tex = tp.ntk(conv_net()).latex()
    assert tex.count(r"\Sigma^{(2)}(x,x')[p,q] &=") == 1 and r"\Sigma^{(2)}(x,x)[p,p] &=" not in tex
    assert r"\frac{\sigma_{w}^{2}}{9} \sum_{k} \mathsf{V}_{\operatorname{relu}}\bigl[\Sigma^{(1)}(x,x')[p+k,q+k]" in tex
    assert r"\frac{1}{P \cdot P'} \sum_{p,q}" in tex
    assert "holds for them as for $(x,x')$" in tex and r"$k \in \{-1,0,1\}^{2}$" in tex


def test_sympy_equations_hold_symbols_at_positions():
    *_, pi, theta = tp.ntk(conv_net()).equations
    assert str(pi.lhs) == "Π^(1)(x,x')[p,q]" and {str(s) for s in pi.rhs.free_symbols} == {
        "sigma_w", "V[step](Σ^(1)(x,x')[p,q])", "Σ_k Π^(2)(x,x')[p-k,q-k]"}  # fmt: skip
    assert pi.rhs.coeff(W**2).as_coeff_Mul()[0] == sp.Rational(1, 9)
    assert str(theta.lhs) == "Θ(x,x')"


def test_numbers_of_the_weights_stay_visible_beside_the_size_of_the_window():
    @tp.network
    def net(net, x):
        return net.flatten("V", tp.relu(net.conv("U", x, (3,), std=sp.sqrt(2))))

    assert equations(tp.nngp(net()))["Σ^(1)(x,x')[p,q]"] == "2/3 Σ_k ⟨x[p+k],x'[q+k]⟩"


def test_printing_a_deep_network_does_not_grow_faster_than_its_depth():
    texts = [len(tp.ntk(conv_net(depth=depth)).text()) for depth in (10, 20)]
    assert texts[1] < 2.2 * texts[0]


def test_windows_are_spelled():
    w = Window(3, stride=2, dilation=2)
    assert (reads(w, "p", "k"), read_by(w, "p", "k")) == ("2p+2k", "(p-2k)/2")
    w = Window(3, stride=(1, 2))
    assert (reads(w, "p", "k"), read_by(w, "p", "k")) == ("(1,2)p+k", "(p-k)/(1,2)")
    assert [count(Window(k), 2) for k in (1, 3, (2, 5))] == [1, 9, 10] and count(Window(1), None) == 1
    assert offsets(Window(4), 2, "", TEXT) == "k in {-1,..,2}²"
    assert offsets(Window(4, padding="valid"), 1, "", TEX) == r"$k \in \{0,\dots,3\}$"
    windows = Windows.of([Window(3), Window((3, 3)), Window(2)])
    assert [windows.label(m) for m in (Window(3), Window((3, 3)), Window(2))] == ["w1", "w1", "w2"]


def test_axes_after_windows_of_known_dimension_are_those_before_them():
    start = Axes("x")
    for kernel in (3, (3, 3), (5, 1)):
        assert start.after(Window(kernel)) is start
    assert start.after(Window((3, 3), padding="valid")) != start
    assert Axes("x", (Window((3, 3)),)) != Axes("x", (Window((3,)),))


def test_graphs_are_matrices_that_come_with_the_inputs():
    found = equations(tp.ntk(tp.programs.gcn(depth=2)))
    assert found["Σ^(2)(x,x')[p,q]"] == "Σ_(r,s) A[p,r]·A'[q,s]·V[relu](Σ^(1)(x,x')[r,s])"
    assert found["Σ^(2)(x,x)[p,p]"] == "Σ_(r,s) A[p,r]·A[p,s]·V[relu](Σ^(1)(x,x)[r,s])"
    assert found["Π^(1)(x,x')[p,q]"] == "V[step](Σ^(1)(x,x')[p,q])·Σ_(r,s) A[r,p]·A'[s,q]·Π^(2)(x,x')[r,s]"


def test_attention_is_a_sum_with_scores_of_two_positions_of_one_input():
    @tp.network
    def net(net, x, *, phi=tp.relu):
        h = net.attention("A", phi(net.dense(("W", 1), phi(net.embed("U", x)))), tied=True, causal=True)
        return net.readout("V", net.global_pool(phi(h)))

    found = equations(tp.nngp(net()))
    assert found["s(x)[p,q]"] == "V[relu](Σ^(1)(x,x)[p,q])"
    assert found["a(x)[p,q]"] == "1[q≤p]·exp(s(x)[p,q])/Σ_r 1[r≤p]·exp(s(x)[p,r])"
    assert found["E_y(x,x')[p,q]"] == "Σ_(r,s) a(x)[p,r]·a(x')[q,s]·V[relu](Σ^(1)(x,x')[r,s])"
    assert "E^(1)(x,x)[p,p]" not in found, "what only says that it is taken at x' = x"


def test_functions_of_inner_products_stand_at_the_positions_of_their_input():
    @tp.network
    def net(net, x, *, phi=tp.relu):
        h = net.rms_norm(net.embed("U", x))
        return net.readout("V", net.global_pool(phi(net.attention("A", h, tied=True))))

    found = equations(tp.nngp(net()))
    assert found["s(x)[p,q]"] == "⟨x[p],x[q]⟩/sqrt(⟨x[p],x[p]⟩·⟨x[q],x[q]⟩)"


SPATIAL = sorted(name for name, build in tp.programs.GALLERY.items() if build().takes_axes)


@pytest.mark.parametrize("kernel", [tp.nngp, tp.ntk])
@pytest.mark.parametrize("name", SPATIAL)
def test_names_of_the_gallery_are_unique_and_defined_before_they_are_used(name, kernel):
    K = kernel(tp.programs.GALLERY[name]())
    stem = r"[ΣΠEΘ](?:_\w+)?\^\([\d,]+\)\(x'?,x'?\)(?:\.\d)?|\b[a-zμ]\^\([\d,]+\)\(x'?\)|E\(dx\S+\)"
    lines = [line.split(" = ", 1) for line in re.sub(r"\n {6,}", " ", K.text().split("\n\n", 1)[1]).splitlines()]
    lefts = [left.strip() for left, _ in lines]
    assert len(set(lefts)) == len(lefts)
    known, both = set(), {re.match(stem, left)[0] for left in lefts[:-1]}
    for left, right in lines:
        assert {n for n in re.findall(stem, right) if n in both} <= known
        known |= set(re.findall(stem, left))
    tex = K.latex()
    assert tex.count("{") == tex.count("}") and "windows of" not in K.text() + tex and "Everywhere" not in tex
