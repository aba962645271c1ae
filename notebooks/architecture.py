# %% [markdown]
# # Writing your own architecture
#
# A network is a function of `net`, which hands out parameters by name, and of an input. It is traced once per
# input; parameters with the same name are shared, which is all that weight tying needs.

# %%
import numpy as np
import sympy as sp

import tensorprog as tp

# %% [markdown]
# ## Layers are lines of Python
#
# `net.embed` reads data, `net.dense` multiplies by an n×n matrix with entries N(0, std²/n), `net.bias` adds a vector,
# `net.readout` closes. Below, three layers share one matrix, and each adds its input back:


# %%
@tp.network
def tied_residual(net, x, *, depth=3, phi=tp.relu, sigma_w=1, alpha=1):
    h = net.embed("U", x)
    for _ in range(depth):
        h = h + alpha * net.dense("W", phi(h), std=sigma_w)
    return net.readout("V", phi(h))


net = tied_residual(depth=2, phi=tp.abstract("phi"), alpha=sp.Symbol("alpha", positive=True))
K = tp.ntk(net)
K

# %%
tp.draw(net)

# %% [markdown]
# Sharing matters: with one matrix for all layers, the pre-activations of different layers are correlated, which the
# equations show, and the NTK sums over all pairs of uses of $W$. Numbers, and the check against simulation:

# %%
X = np.random.default_rng(1).normal(size=(3, 5))
tp.ntk(tied_residual(depth=2, phi=tp.erf, alpha=0.5))(X).round(4)

# %%
verdict = tp.verify(tied_residual(depth=2, phi=tp.erf, alpha=0.5), X, widths=(32, 64, 128), seeds=20)
verdict

# %% [markdown]
# ## Sequences
#
# When the function iterates over `x`, inputs are sequences, of any lengths. An Elman network whose state also skips
# one step:


# %%
@tp.network
def skip_rnn(net, x, *, phi=tp.tanh, sigma_w=1):
    states = []
    for x_t in x:
        h = net.embed("U", x_t)
        if states:
            h = h + net.dense("W", states[-1], std=sigma_w)
        if len(states) > 1:
            h = h + net.dense("S", states[-2], std=sigma_w)
        states.append(phi(h))
    return net.readout("V", states[-1])


sequences = [np.random.default_rng(k).normal(size=(T, 2)) for k, T in enumerate((3, 4, 4))]
tp.ntk(skip_rnn())(sequences).round(4)

# %% [markdown]
# ## Any nonlinearity
#
# Functions of several vectors, with scalars computed on the way (`tp.moment` averages over coordinates), are as good
# as $\phi$. A network normalised by the root mean square of its layer:


# %%
@tp.network
def rms_net(net, x):
    h = net.embed("U", x)
    scale = tp.moment(lambda a: a**2, h)
    h = tp.nonlin(lambda a, s: sp.tanh(a / sp.sqrt(s)), h, params=[scale])
    return net.readout("V", h)


tp.ntk(rms_net())

# %%
tp.ntk(rms_net())(X).round(4)

# %% [markdown]
# ## What goes wrong is said
#
# A mistake is reported when the line that makes it runs:


# %%
@tp.network
def mistaken(net, x):
    return net.readout("V", tp.relu(x))  # data enter the network through net.embed


try:
    tp.ntk(mistaken()).text()
except tp.ProgramError as error:
    print(error)
