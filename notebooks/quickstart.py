# %% [markdown]
# # Quickstart
#
# An architecture is a Python function. The engine derives what it does at infinite width, prints the formulas,
# computes them on data, and checks them against finite networks.

# %%
import numpy as np

import tensorprog as tp

# %% [markdown]
# ## A network, its kernels
#
# The gallery has the standard ones. An unspecified $\phi$ keeps the formulas general:

# %%
net = tp.programs.mlp(depth=2, phi=tp.abstract("phi"), sigma_w=1, sigma_b=1)
tp.nngp(net)

# %%
theta = tp.ntk(net)
theta

# %% [markdown]
# `theta.text()` is the same for a terminal and `theta.latex()` for a paper. For every depth at once:

# %%
theta.recursion(form="forward")

# %% [markdown]
# The program behind it, forward and backward:

# %%
tp.draw(net, backprop=True)

# %% [markdown]
# With a concrete $\phi$ the kernel is a function of data:

# %%
relu_net = tp.programs.mlp(depth=3, phi=tp.relu, sigma_w=2**0.5, sigma_b=0.1)
X = np.random.default_rng(0).normal(size=(4, 10))
K = tp.ntk(relu_net)
K(X).round(4)

# %% [markdown]
# ## Is it right?
#
# `verify` derives the kernel in independent ways, runs networks of several widths, and compares. Every number
# that comes from simulation carries its standard error, and every claim gets a verdict.

# %%
report = tp.verify(relu_net, X[:3], widths=(32, 64, 128), seeds=20)
assert report.passed
report

# %% [markdown]
# ## Below networks: programs
#
# Networks are programs of matrix products, coordinatewise functions and averages. Here is one by hand: what is the
# correlation of $x$ with $W^\top\,\mathrm{step}(W x)$?

# %%
p = tp.Program()
W, x = p.matrix("W"), p.vector("x")
y = W.T @ tp.step(W @ x)
lim = tp.limit(p)
lim.Z(y)

# %% [markdown]
# The Dirac mass $\delta$ is the derivative of the step. In the limit $(1/n)\, x\cdot y$ is $1/\sqrt{2\pi}$:

# %%
lim.evaluate(lim.cov(x, y)), 1 / np.sqrt(2 * np.pi)

# %%
tp.draw(p)

# %% [markdown]
# The same object runs at any width, and a third interpretation samples the limit, with standard errors:

# %%
for width in (100, 1000, 4000):
    run = tp.sample(p, width=width, seed=0)
    print(f"n = {width:4}: {np.mean(run[x] * run[y]):.4f}")
print("sampled limit:", tp.limit(p, method="sampling", samples=10**5, seed=0).cov(x, y))
