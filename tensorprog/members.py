"""How members of the table of nonlinearities travel: by name, and those that were declared by their definition."""

from __future__ import annotations

import copyreg
from typing import Any

from tensorprog.errors import ProgramError, shortly
from tensorprog.functions import FAMILIES, Family, Fn, abstract, member

BUILT_IN = frozenset(FAMILIES)
Definition = tuple[Any, ...]  # name, definition, kinks, parity, pieces, ends


def definition_of(family: Family) -> Definition:
    """What a declared nonlinearity is."""
    return family.name, family.definition, family.kinks, family.parity, family.pieces, family.ends


def family_of(name: str, smooth: Any, kinks: Any, parity: int, pieces: Any, ends: Any) -> Family:
    """A definition as a family that is in no table."""
    tex = rf"\operatorname{{{name}}}".replace("_", "")
    return Family(name, tex, smooth, kinks=kinks, parity=parity, pieces=pieces, ends=ends)


def declared_family(*made: Any) -> Family:
    """What was declared, here or in another process.

    Raises:
        ProgramError: the name means another function in this process.
    """
    name = made[0]
    known = FAMILIES.setdefault(name, family_of(*made))
    if definition_of(known) != made:
        raise ProgramError(
            f"another nonlinearity was declared as {name} in this process: choose another name, or start anew (on a "
            "cluster the workers too)"
        )
    return known


def _named(name: str, order: int) -> type[Fn]:
    return member(FAMILIES[name] if name in FAMILIES else abstract(name).family, order)


def _declared(definition: Definition, order: int) -> type[Fn]:
    return member(declared_family(*definition), order)


def _pickled(cls: type[Fn]) -> str | tuple[Any, tuple[Any, int]]:
    if cls is Fn:
        return cls.__qualname__
    family = cls.family
    if FAMILIES.get(family.name) is family and family.name not in BUILT_IN:
        return _declared, (definition_of(family), cls.order)
    return _named, (family.name, cls.order)


copyreg.pickle(type(Fn), _pickled)  # type: ignore[arg-type]


def __getattr__(name: str) -> type[Fn]:
    """The member "member:tanh''": cloudpickle copies classes that it does not find where they say they are."""
    marked, _, member_name = name.partition("member:")
    family = member_name.rstrip("'")
    if marked or not family.isidentifier():
        raise AttributeError(f"{__name__} has no {shortly(name)}")
    return _named(family, len(member_name) - len(family))
