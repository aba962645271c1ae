"""Learning with the kernels of networks: estimators for scikit-learn, Gaussian processes, training dynamics.

``Dynamics``, ``GaussianProcess`` and ``Spectrum`` need nothing else; ``NTKRegressor``, ``NTKClassifier`` and
``NetworkKernel`` need scikit-learn, which is imported when one of them is first asked for.
"""

from __future__ import annotations

import importlib
from typing import Any

from tensorprog.errors import nearest

HOMES = {
    "Dynamics": "dynamics",
    "GaussianProcess": "gaussian",
    "NTKClassifier": "estimators",
    "NTKRegressor": "estimators",
    "NetworkKernel": "process_kernel",
    "Spectrum": "spectrum",
    "Stop": "dynamics",
}
NEED_SKLEARN = ("estimators", "process_kernel")


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"tensorprog.learn has no {name!r}; {nearest(name, HOMES)}")
    try:
        module = importlib.import_module(f"tensorprog.learn.{HOMES[name]}")
    except ModuleNotFoundError as error:
        if HOMES[name] in NEED_SKLEARN and (error.name or "").split(".")[0] == "sklearn":
            raise ImportError(f"{name} needs scikit-learn: pip install 'tensorprog[learn]'") from error
        raise
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted(HOMES)
