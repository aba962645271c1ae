"""Learning with the kernels of networks: estimators for scikit-learn, Gaussian processes, training dynamics.

``Dynamics``, ``GaussianProcess`` and ``Spectrum`` need nothing else; ``NTKRegressor``, ``NTKClassifier`` and
``NetworkKernel`` need scikit-learn, which is imported when one of them is first asked for.
"""

from tensorprog.lazy import front

__all__ = front(__name__, __file__)
