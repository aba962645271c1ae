"""The largest sizes that files and the command line may ask for, in one table: more is refused before any work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from tensorprog.errors import ProgramError


@dataclass(frozen=True)
class Ceiling:
    """The most of something, and what to do instead of more."""

    most: int
    of: str
    instead: str


_FEWER = "use fewer or lower powers and products, or sample the program with tp.sample"
CEILINGS = {
    # the command line; a derivation takes about a minute at 3000 layers or 1000 time steps, and grows a little faster
    "digits": Ceiling(400, "characters in a number", "write fewer digits; float64 holds 17"),
    "instructions": Ceiling(
        100_000,
        "instructions in one program",
        "use fewer layers, inputs or steps, or shorter sequences; K.recursion() takes any depth and length",
    ),
    "steps": Ceiling(10**6, "training samples", "train for fewer steps"),
    "runs": Ceiling(10**6, "runs for each width", "give fewer seeds; standard errors shrink like 1/√seeds"),
    "vectors": Ceiling(10_000, "vectors as inputs of finite networks", "give fewer inputs, or shorter ones"),
    "samples": Ceiling(10**8, "samples of a limit", "standard errors shrink like 1/√samples; give fewer"),
    "drawn numbers": Ceiling(10**7, "random numbers as inputs", "lower --inputs, --dim or --lengths"),
    "drawn": Ceiling(
        300, "vectors and scalars in a drawing", "draw fewer layers, a shorter sequence, one input or fewer steps"
    ),
    # files of programs: Python reads 4300 digits, and sympy calls itself
    # some 6 times for each expression within another, of the 1000 times that Python allows
    "integer": Ceiling(4300, "digits in an integer of a program", "write it as a power, or round it"),
    "nested": Ceiling(100, "expressions within each other", "name what is inside by an instruction of its own"),
    "parts": Ceiling(100_000, "parts in an expression", "split it into several instructions"),
    # limits: networks with matrices nest functions hardly at all (a dozen, where W and Wᵀ alternate), and multiply a
    # thousand terms at most, T² of them in an expectation over T residual layers
    "functions": Ceiling(80, "functions within each other", "put a matrix between them, or sample the program"),
    "power": Ceiling(2000, "in an exponent", _FEWER),
    "products": Ceiling(10**6, "products of terms at once", _FEWER),
    "pairs": Ceiling(10**7, "products of terms in an expectation", _FEWER),
    "result": Ceiling(4300, "digits in an exact number of a limit", "scale the vectors, or sample the program"),
}


def check_ceiling(name: str, value: int, what: str) -> None:
    """Refuse what is above a ceiling.

    Raises:
        ProgramError: what was asked for, the most there is, and what to do instead.

    >>> check_ceiling("steps", 10**7, "--steps 10000000")
    Traceback (most recent call last):
        ...
    tensorprog.errors.ProgramError: --steps 10000000: at most 1000000 training samples; train for fewer steps
    """
    ceiling = CEILINGS[name]
    if value > ceiling.most:
        raise ProgramError(f"{what}: at most {ceiling.most} {ceiling.of}; {ceiling.instead}")


_bounded: ContextVar[bool] = ContextVar("bounded", default=False)


@contextmanager
def bounded_programs() -> Iterator[None]:
    """No program grows above its ceiling in here: numbers from outside decide how often loops of a network run."""
    token = _bounded.set(True)
    try:
        yield
    finally:
        _bounded.reset(token)


def check_program_size(size: int) -> None:
    """Refuse one more instruction where programs are bounded.

    Raises:
        ProgramError: the most there is, and what to do instead.
    """
    if _bounded.get():
        check_ceiling("instructions", size, "this program grows too large")
