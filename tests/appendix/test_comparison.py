"""Two networks side by side."""

import numpy as np
import pytest

import tensorprog as tp

RNG = np.random.default_rng(0)


def test_tied_and_untied_weights_differ_at_unequal_lengths_only():
    tied, untied = tp.programs.rnn(sigma_b=0.3), tp.programs.rnn(sigma_b=0.3, tied=False)
    assert tp.compare(tied, untied).equal  # T = T', Theorem 3 of the RNTK paper
    x, y = RNG.standard_normal((2, 4)), RNG.standard_normal((3, 4))
    found = tp.compare(tied, untied, [x, y])
    rows = {name: same for name, _, _, same in found.rows}
    assert rows["Σ^(2,2)(x,x)"] and not rows["Θ(x,x')"]
    assert found.values == pytest.approx([tp.ntk(net)([x], [y])[0, 0] for net in (tied, untied)], rel=1e-12)
    mine = [n for n in found.new if n.quantity == "Θ(x,x')"]
    assert sum(n.value for n in mine if n.of == 0) == pytest.approx(found.values[0])


def test_a_skip_brings_one_term_to_every_covariance():
    plain, skip = tp.programs.mlp(depth=2, sigma_w=1), tp.programs.residual_mlp(depth=2)
    a, b = RNG.standard_normal((2, 4))
    found = tp.compare(plain, skip, [a, b])
    new = {(n.of, n.quantity): n for n in found.new}
    assert new[1, "Σ^(2)(x,x')"].term == "⟨x,x'⟩"
    assert new[1, "Σ^(2)(x,x')"].value == pytest.approx(a @ b / 4)
    assert "only in b: ⟨x,x'⟩" in found.text() and "<table" in found._repr_html_()


def test_w_and_its_transpose_bring_the_term_of_zdot():
    @tp.network
    def apart(net, x, *, phi=tp.erf):
        code = phi(net.weight("W") @ net.embed("U", x))
        return net.readout("V", phi(net.weight("W2") @ code))

    found = tp.compare(tp.programs.tied_autoencoder(), apart())
    assert not found.equal and any("E[erf']" in n.term and n.of == 0 for n in found.new)
    assert tp.compare(apart(), apart()).equal


def test_what_cannot_be_compared_is_refused():
    net = tp.programs.mlp()
    with pytest.raises(tp.ProgramError, match="two networks or kernels"):
        tp.compare(net, 3)
    with pytest.raises(tp.DataError, match="two inputs"):
        tp.compare(net, net, np.ones((3, 4)))
