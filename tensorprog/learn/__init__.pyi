from tensorprog.learn.dynamics import Dynamics as Dynamics
from tensorprog.learn.dynamics import Stop as Stop
from tensorprog.learn.estimators import NTKClassifier as NTKClassifier
from tensorprog.learn.estimators import NTKRegressor as NTKRegressor
from tensorprog.learn.gaussian import GaussianProcess as GaussianProcess
from tensorprog.learn.process_kernel import NetworkKernel as NetworkKernel
from tensorprog.learn.spectrum import Spectrum as Spectrum
