# %% [markdown]
# # The recurrent neural tangent kernel, derived
#
# Alemohammad et al. (*The Recurrent Neural Tangent Kernel*, ICLR 2021) derive the NTK of an RNN over several pages of
# appendix. Here the engine derives it from the function in `programs/rnn.py`, about fifteen lines, for inputs of
# different lengths.

# %%
import inspect

import numpy as np
import sympy as sp

import tensorprog as tp

sigma = {name: sp.Symbol(name, positive=True) for name in ("sigma_w", "sigma_u", "sigma_b", "sigma_v")}
net = tp.programs.rnn(phi=tp.abstract("phi"), **sigma)
print(inspect.getsource(inspect.unwrap(tp.programs.rnn)))

# %% [markdown]
# ## T = 3 against T' = 2
#
# Σ^(t,t') is the covariance of pre-activations, Π^(t,t') that of the backward vectors. Π is zero unless both times are
# equally far from the end (Eq. 19), which is why only aligned pairs appear in Θ:

# %%
K = tp.ntk(net, lengths=(3, 2))
K

# %% [markdown]
# A path from a use of $W$ in the first sequence, and an isomorphic one in the other: their inner product is a
# term of Θ.

# %%
tp.draw(net, path="W", lengths=[3, 2])

# %% [markdown]
# ## Any T and T'
#
# The engine folds such systems into a recursion (Eq. 9 and 11–19 of the paper), and checks the fold by deriving again
# at larger lengths, equation by equation:

# %%
R = tp.ntk(net).recursion(over="lengths")
R

# %%
print("checked at", "; ".join(", ".join(f"{k} = {v}" for k, v in size) for size in R.proved))

# %% [markdown]
# It evaluates where nothing was ever derived, here sequences of lengths 300 and 280:

# %%
rng = np.random.default_rng(0)
long = tp.ntk(tp.programs.rnn(phi=tp.relu, sigma_w=1.4, sigma_u=0.5)).recursion(over="lengths")
long([rng.normal(size=(300, 2))], [rng.normal(size=(280, 2))])

# %% [markdown]
# ## Numbers
#
# The paper compares x = (1, −1, 1) with x' = (cos α, sin α). The kernel at four angles, and finite networks:

# %%
relu_net = tp.programs.rnn(phi=tp.relu, sigma_w=2**0.5, sigma_u=1, sigma_b=0.1)
K = tp.ntk(relu_net)
x = np.array([[1.0], [-1.0], [1.0]])
for alpha in (0, np.pi / 3, np.pi, 3 * np.pi / 2):
    other = np.array([[np.cos(alpha)], [np.sin(alpha)]])
    limit = K([x], [other])[0, 0]
    runs = np.array([tp.empirical_ntk(relu_net, [x], [other], width=256, seed=s)[0, 0] for s in range(30)])
    print(f"α = {alpha:4.2f}: {limit:.4f};  width 256: {runs.mean():.4f} ± {runs.std(ddof=1) / np.sqrt(len(runs)):.4f}")

# %% [markdown]
# ## Weight tying does not show, at equal lengths
#
# Theorem 3 of the paper: with new weights at every time step the kernel is the same, if T = T'. At T ≠ T' it is not:

# %%
tied, untied = (tp.ntk(tp.programs.rnn(phi=tp.erf, sigma_b=0.3, tied=tied)) for tied in (True, False))
rng = np.random.default_rng(0)
a, b, c = rng.normal(size=(4, 2)), rng.normal(size=(4, 2)), rng.normal(size=(3, 2))
print("T = T' = 4:    ", tied([a], [b])[0, 0], untied([a], [b])[0, 0])
print("T = 4, T' = 3: ", tied([a], [c])[0, 0], untied([a], [c])[0, 0])

# %% [markdown]
# ## Several layers
#
# Several layers (Eq. 33 and 34 of the paper, with their boundary cases); the paper's misprints are in `docs/errata.md`:

# %%
tp.ntk(tp.programs.rnn(layers=2, phi=tp.abstract("phi"), **sigma)).recursion()
