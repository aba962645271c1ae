# %% [markdown]
# # When gradient independence fails
#
# Derivations of the NTK often treat $W^\top$ in the backward pass as independent of $W$ in the forward pass. That is a
# theorem when the readout vector is random, centred and used once (the simple check of Tensor Programs II). This
# notebook shows what happens otherwise.

# %%
import numpy as np
import sympy as sp

import tensorprog as tp

# %% [markdown]
# ## The smallest case
#
# $(1/n)\,x\cdot W^\top\phi(Wx)$. Were $W^\top$ independent of $W$, this would tend to 0.

# %%
p = tp.Program()
W, x = p.matrix("W"), p.vector("x")
y = W.T @ tp.abstract("phi")(W @ x)
lim = tp.limit(p)
lim.Z(y)

# %% [markdown]
# of which $\dot Z$ is

# %%
lim.zdot(y)

# %% [markdown]
# and $E\,Z^x Z^y$

# %%
lim.cov(x, y)

# %% [markdown]
# $\dot Z$ is the part that remembers $W$: a multiple of $Z^x$ itself, with the coefficient $E\,\phi'$.
#
# ## A network whose readout is the mean
#
# With $f = \sum_\alpha x_\alpha/\sqrt n$ the backward pass starts from a constant vector, and the check fails:

# %%
net = tp.programs.mean_readout(depth=2, phi=tp.abstract("phi"), sigma_w=sp.Symbol("sigma_w", positive=True))
K = tp.ntk(net)
K

# %% [markdown]
# The same kernel under the assumption lacks a term:

# %%
K.under_gia

# %% [markdown]
# ## Which one do networks follow?

# %%
net = tp.programs.mean_readout(depth=2, phi=tp.relu, sigma_w=2**0.5)
X = np.random.default_rng(0).normal(size=(2, 4))
derived, assumed = tp.ntk(net)(X)[0, 1], tp.ntk(net).under_gia(X)[0, 1]
print(f"derived {derived:.4f}, under gradient independence {assumed:.4f}")
for width in (64, 256, 1024):
    samples = np.array([tp.empirical_ntk(net, X, width=width, seed=s)[0, 1] for s in range(40)])
    print(f"width {width:4}: {samples.mean():.4f} ± {samples.std(ddof=1) / np.sqrt(len(samples)):.4f}")

# %% [markdown]
# ## W and Wᵀ in one forward pass
#
# In an autoencoder with tied weights, the readout is random and used once, so the assumption holds for the backward
# pass. But the *forward* pass contains $W^\top\phi(Wx)$, and its $\dot Z$ enters the kernel, in the covariances and as
# further paths from the output back to the input:

# %%
net = tp.programs.tied_autoencoder(phi=tp.erf)
tp.ntk(net)

# %%
tp.draw(net, backprop=True)

# %%
report = tp.verify(net, X, widths=(32, 64, 128), seeds=20)
report

# %% [markdown]
# ## During training
#
# After the first step every pre-activation contains $W W^\top dh$. Without $\dot Z$ the output of a network would not
# move at all when an inner layer is trained:

# %%
net = tp.programs.mlp(depth=2, phi=tp.abstract("phi"), sigma_w=1)
tp.unroll(net, steps=1, trainable=["U"]).certify()

# %%
tp.unroll(net, steps=1, trainable=["U"]).certify(gia=True)
