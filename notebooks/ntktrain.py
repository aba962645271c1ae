# %% [markdown]
# # Training an infinitely wide network, inside one program
#
# This notebook follows section 3 of *Tensor Programs IIb*: a network with one and one with two hidden
# layers, trained by SGD. Nothing below is typed in: every formula is what the engine derives from the
# architecture.
#
# Notation: $\theta = n^{-1/2}$, $\delta x_t = \sqrt n\,(x_t - x_0)$, $dx = \sqrt n\,\partial f/\partial x$,
# $\chi_t = L'(f_t)$, and $Z^x$ is the distribution of a coordinate of $x$. The paper's $\delta x_t$ is the change in
# step $t$, $\sqrt n\,(x_t - x_{t-1})$; here it is the change since time 0. At $t = 1$, as printed below, they agree.

# %%
import numpy as np
import sympy as sp

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.finite.trajectories import FiniteTraining

phi = tp.abstract("phi")

# %% [markdown]
# ## One hidden layer
#
# $f = v\cdot\phi(U\xi)/\sqrt n$, only $U$ trained. One step on a sample $\xi_0$, seen from a test input $x$.


# %%
@tp.network
def one_hidden_layer(net, x):
    return net.readout("V", phi(net.embed("U", x)))


run = tp.unroll(one_hidden_layer(), steps=1, trainable=["U"])
print(run.program)

# %% [markdown]
# The scaled change of the pre-activation, $Z^{\delta h}$ (Eq. 5):

# %%
run.zdelta(1, "U(x)")

# %% [markdown]
# The change of the output, $f_1 - f_0$ (Eq. 9 and 10):

# %%
run.delta_f(0)

# %% [markdown]
# $-\eta\chi_0\langle x,\xi_0\rangle\,E\,\phi'(Z)\phi'(Z')$: the NTK of this network, as the certificate confirms
# with a kernel that was derived in another way (by path sums).

# %%
run.certify()

# %% [markdown]
# ## Two hidden layers
#
# Now $h = W\phi(U\xi)$, and the change of $h$ contains $W\,\delta z$, where $\delta z$ itself contains
# $W^\top dh$. Treating $W^\top$ as independent of $W$ is wrong from the first step on.


# %%
@tp.network
def two_hidden_layers(net, x):
    return net.readout("V", phi(net.dense("W", phi(net.embed("U", x)))))


run = tp.unroll(two_hidden_layers(), steps=1, trainable=["U"])
lim = run.limit
delta_h = run._unrolled.delta[1, run.trace.program.named("W(x)")]
delta_z = run._unrolled.delta[1, run.trace.program.op(run.trace.program.named("W(x)")).x]

# %% [markdown]
# Eq. 18: $Z^{\delta z}$, a function of $Z^{W^\top dh}$:

# %%
lim.Z(delta_z)

# %% [markdown]
# Eq. 17: $Z^{W\delta z}$ is a Gaussian, $\hat Z$, plus a multiple of $Z^{dh}$ with the coefficient of Eq. 19, $\dot Z$:

# %%
lim.zhat(delta_h)

# %%
lim.zdot(delta_h)

# %% [markdown]
# The coefficient in Ż is the expected derivative $E\,\partial Z^{\delta z}/\partial Ẑ^{W^\top dh}$. Here it is, opened:

# %%
names = {e.lhs: e.rhs for e in lim.equations}
(coefficient,) = [s for s in lim.zdot(delta_h).free_symbols if str(s).startswith("a(")]
names[coefficient]

# %% [markdown]
# Intuition for Claim 3.2, Eq. 20 and 21: $W W^\top x$ is a Gaussian plus $x$ itself.

# %%
p = tp.Program()
W, x = p.matrix("W"), p.vector("x")
y = W @ (W.T @ x)
tp.limit(p).Z(y)

# %%
sample = tp.sample(p, width=4000, seed=0)
print("at width 4000, (1/n) x·WWᵀx =", round(float(sample[x] @ sample[y]) / 4000, 3), "and not 0")

# %% [markdown]
# The change of $f$, and what independence of $W^\top$ would have given: $f$ would not move.

# %%
run.delta_f(0)

# %%
run.certify(gia=True)

# %% [markdown]
# ## Algorithm 1: the whole first step, training the middle layer only

# %%
run = tp.unroll(two_hidden_layers(), steps=1, trainable=["W"])
print(run.program)

# %%
run.delta_f(0)

# %%
tp.draw(run)

# %% [markdown]
# ## All parameters, several steps, shared weights
#
# $\lim f_{t+1}(\xi) - f_t(\xi) = -\eta_t\chi_t K(\xi,\xi_t)$ (Eq. 22), for an RNN whose samples have different lengths,
# and for a network with $W$ and $W^\top$ in its forward pass:

# %%
tp.unroll(tp.programs.rnn(phi=phi), steps=3, lengths=[3, 2, 4, 3]).certify()

# %%
tp.unroll(tp.programs.tied_autoencoder(phi=phi), steps=3).certify()

# %% [markdown]
# A kernel that is wrong is refused, with the terms that differ:

# %%
net = tp.programs.mlp(depth=2, phi=phi, sigma_w=1)
tp.unroll(net, steps=1).certify(kernel=tp.programs.mlp(depth=1, phi=phi, sigma_w=1))

# %% [markdown]
# Momentum follows the same kernel with other weights; with weight decay no fixed kernel exists, and the derived
# update is stated.

# %%
mu, eta = sp.symbols("mu eta", positive=True)
tp.unroll(net, steps=2, optimizer=tp.SGD(eta, momentum=mu)).certify()

# %%
wd = tp.SGD(eta, weight_decay=sp.Symbol("lambda", positive=True))
tp.unroll(tp.programs.mlp(depth=1, phi=phi, sigma_w=1), steps=1, optimizer=wd).certify()

# %% [markdown]
# ## The same program at finite width is SGD
#
# Executed at width n, the program trains a network, to float rounding; its outputs approach kernel gradient
# descent.

# %%
rng = np.random.default_rng(0)
X, y = rng.normal(size=(3, 4)), rng.normal(size=3)
training = FiniteTraining(tp.programs.mlp(depth=2, phi=tp.tanh), read_inputs(X, "X", "vectors"), y, 5, tp.SGD(0.5))
for width in (64, 512, 2048):
    (trajectory,) = training.run(width, [0])
    predicted = training.predict(trajectory.f[None, 0], trajectory.chi[None])[0]
    print(f"width {width:5}: largest |f − prediction| {np.abs(trajectory.f - predicted).max():.3f}")
