"""The verdict on a misprint: simulation confirms what is derived and rejects what is printed."""

from dataclasses import dataclass

import numpy as np
import pytest


@dataclass(frozen=True)
class Verdict:
    """Three numbers that should be one: as printed, as derived, as simulated with its standard error."""

    where: str
    printed: float
    derived: float
    simulated: float
    stderr: float

    def __str__(self):
        return (
            f"{self.where}: printed {self.printed:.4f}, derived {self.derived:.4f}, "
            f"simulated {self.simulated:.4f} ± {self.stderr:.4f}"
        )

    def check(self):
        """Derived within 4 standard errors; printed further away than 8."""
        print(self)
        assert abs(self.derived - self.simulated) <= 4 * self.stderr, str(self)
        assert abs(self.printed - self.simulated) > 8 * self.stderr, str(self)


@pytest.fixture
def judge():
    """``judge(where, printed, derived, samples)`` with one simulated value per seed."""

    def judge(where, printed, derived, samples):
        samples = np.asarray(samples, dtype=float)
        stderr = samples.std(ddof=1) / np.sqrt(len(samples))
        Verdict(where, float(printed), float(derived), float(samples.mean()), float(stderr)).check()

    return judge
