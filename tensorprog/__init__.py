"""tensorprog: the infinite-width limit of neural networks, derived from a Python program."""

from tensorprog.dsl.network import network as network
from tensorprog.dsl.nonlinearities import NONLINEARITIES as NONLINEARITIES
from tensorprog.dsl.nonlinearities import abs_ as abs
from tensorprog.dsl.nonlinearities import abstract as abstract
from tensorprog.dsl.nonlinearities import cos as cos
from tensorprog.dsl.nonlinearities import erf as erf
from tensorprog.dsl.nonlinearities import exp as exp
from tensorprog.dsl.nonlinearities import gauss as gauss
from tensorprog.dsl.nonlinearities import gelu as gelu
from tensorprog.dsl.nonlinearities import identity as identity
from tensorprog.dsl.nonlinearities import leaky_relu as leaky_relu
from tensorprog.dsl.nonlinearities import polynomial as polynomial
from tensorprog.dsl.nonlinearities import relu as relu
from tensorprog.dsl.nonlinearities import sigmoid as sigmoid
from tensorprog.dsl.nonlinearities import sign as sign
from tensorprog.dsl.nonlinearities import silu as silu
from tensorprog.dsl.nonlinearities import sin as sin
from tensorprog.dsl.nonlinearities import softplus as softplus
from tensorprog.dsl.nonlinearities import step as step
from tensorprog.dsl.nonlinearities import tanh as tanh
from tensorprog.dsl.program import Program as Program
from tensorprog.dsl.program import moment as moment
from tensorprog.dsl.program import nonlin as nonlin
from tensorprog.errors import AccuracyError as AccuracyError
from tensorprog.errors import AssumptionError as AssumptionError
from tensorprog.errors import DataError as DataError
from tensorprog.errors import NoRuleError as NoRuleError
from tensorprog.errors import ProgramError as ProgramError
from tensorprog.errors import TensorProgramError as TensorProgramError
from tensorprog.finite.empirical import empirical_ntk as empirical_ntk
from tensorprog.finite.sample import sample as sample
from tensorprog.kernels.certificate import Certificate as Certificate
from tensorprog.kernels.kernel import Kernel as Kernel
from tensorprog.kernels.methods import nngp as nngp
from tensorprog.kernels.methods import ntk as ntk
from tensorprog.kernels.training import Training as Training
from tensorprog.kernels.training import unroll as unroll
from tensorprog.limit.master import Limit as Limit
from tensorprog.limit.methods import limit as limit
from tensorprog.limit.sampling import Estimate as Estimate
from tensorprog.limit.sampling import SampledLimit as SampledLimit
from tensorprog.passes.canonicalize import canonicalize as canonicalize
from tensorprog.passes.optimizer import SGD as SGD
from tensorprog.train import TrainingReport as TrainingReport
from tensorprog.train import train as train
from tensorprog.verify import Claim as Claim
from tensorprog.verify import Verification as Verification
from tensorprog.verify import verify as verify

from tensorprog import learn as learn  # isort: skip  (imports scikit-learn only when asked for an estimator)
from tensorprog import programs as programs  # isort: skip  (the gallery is written in the names above)
