"""The nonlinearities in one place: ``tp.nn.relu`` is ``tp.relu``."""

import builtins

from tensorprog.dsl.nonlinearities import NONLINEARITIES as NONLINEARITIES
from tensorprog.dsl.nonlinearities import Nonlinearity as Nonlinearity
from tensorprog.dsl.nonlinearities import abs_ as abs  # noqa: F401
from tensorprog.dsl.nonlinearities import abstract as abstract
from tensorprog.dsl.nonlinearities import cos as cos
from tensorprog.dsl.nonlinearities import declare as declare
from tensorprog.dsl.nonlinearities import elu as elu
from tensorprog.dsl.nonlinearities import erf as erf
from tensorprog.dsl.nonlinearities import exp as exp
from tensorprog.dsl.nonlinearities import gauss as gauss
from tensorprog.dsl.nonlinearities import gelu as gelu
from tensorprog.dsl.nonlinearities import hard_tanh as hard_tanh
from tensorprog.dsl.nonlinearities import hermite as hermite
from tensorprog.dsl.nonlinearities import identity as identity
from tensorprog.dsl.nonlinearities import leaky_relu as leaky_relu
from tensorprog.dsl.nonlinearities import monomial as monomial
from tensorprog.dsl.nonlinearities import polynomial as polynomial
from tensorprog.dsl.nonlinearities import relu as relu
from tensorprog.dsl.nonlinearities import relu6 as relu6
from tensorprog.dsl.nonlinearities import selu as selu
from tensorprog.dsl.nonlinearities import sigmoid as sigmoid
from tensorprog.dsl.nonlinearities import sign as sign
from tensorprog.dsl.nonlinearities import silu as silu
from tensorprog.dsl.nonlinearities import sin as sin
from tensorprog.dsl.nonlinearities import softplus as softplus
from tensorprog.dsl.nonlinearities import step as step
from tensorprog.dsl.nonlinearities import tanh as tanh

__all__ = [n for n in dir() if not n.startswith("_") and n != "builtins" and not hasattr(builtins, n)]
