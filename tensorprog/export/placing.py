"""Equations over positions: quantities as arrays (P, P'), maps between positions as matrices for every offset."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tensorprog.algebra import Gen, Poly, Scalar
from tensorprog.dsl.trace import Datum
from tensorprog.errors import NoRuleError
from tensorprog.export.onebyone import Writer
from tensorprog.export.phrases import ATOM, PRODUCT, Phrase, Speller, wrapped
from tensorprog.ir.axes import Axes, Everywhere, Map, Window
from tensorprog.ir.maps import Given
from tensorprog.limit.equations import children, reachable
from tensorprog.limit.mixing import SIDES
from tensorprog.limit.positions import Along, At, Causal, Rows, Weighed, Whole

ALONE = "alone"  # the function of one input with itself


class PlacedWriter(Writer):
    """Writes the equations of a kernel of inputs with positions.

    Attributes:
        helpers: the functions of maps that are called.
    """

    def __init__(self, derivation: Any, speller: Speller, integrals: Any, polys: list[Poly] | None = None) -> None:
        super().__init__(derivation, speller, integrals)
        self.nested, self.polys = polys is not None, polys or [derivation.poly]
        self.helpers, self.head = set[str](), list[str]()
        self._known: dict[Any, Any] = {}
        self._ats: dict[Gen, str] = {}
        self._full_at: dict[Gen, set[int]] = {}

    def lines(self) -> list[str]:
        """Assignments and the return."""
        alone = [] if self.nested else self._alone()
        found = self.assignments(self.polys, self.nested)
        results = [self.phrase(p) for p in self.polys]
        last = ", ".join(r[0] for r in results) if self.nested else f"{wrapped(results[0], ATOM)}[0, 0]"
        part = next(iter(sorted(self.d.trace.parts.over)), None)
        dtype = [f"dtype = x1{'' if part is None else f'[{part!r}]'}.dtype"] if self.speller.module == "torch" else []
        return [*dtype, *alone, *self.head, *found, f"return {last}"]

    def _alone(self) -> list[str]:
        """What is found from one input with itself."""
        found = sorted((g for g in reachable([self.d.poly]) if isinstance(g, At)), key=lambda g: g.index)
        if not found:
            return []
        inner = list(dict.fromkeys(g.inner for g in found))
        nested = PlacedWriter(self.d, self.speller, self.integrals, inner)
        body = nested.lines()
        self.helpers |= nested.helpers
        names = {p: f"same{i + 1}" for i, p in enumerate(inner)}
        lines = [f"def {ALONE}(x1):", "    x2 = x1", *(f"    {line}" for line in body), ""]
        for point in (0, 1):
            of = [p for p in inner if any(g.point == point and g.inner is p for g in found)]
            if of:
                taken = ", ".join(f"{names[p]}_{point + 1}" for p in of)
                picked = "" if len(of) == len(inner) else f"[{', '.join(str(inner.index(p)) for p in of)}]"
                values = f"{ALONE}(x{point + 1})" if len(inner) > 1 else f"[{ALONE}(x{point + 1})]"
                if picked:
                    values = f"({ALONE}(x{point + 1})[k] for k in ({picked[1:-1]},))"
                lines.append(f"{taken}{',' if len(of) == 1 else ''} = {values}")
        for g in found:
            name = f"{names[g.inner]}_{g.point + 1}"
            self._ats[g] = self._taken(g, name)
        return lines

    def _taken(self, g: At, name: str) -> str:
        if isinstance(g, Whole):
            return name
        self.helpers.add("diagonal")
        return f"diagonal({name})[{':, None' if g.point == 0 else 'None, :'}]"

    # ---- generators ------------------------------------------------------------------------------

    def leaf(self, g: Gen) -> Phrase:
        if isinstance(g, At):
            found = self._ats.get(g) or self._taken(g, wrapped(self.phrase(g.inner), ATOM))
            return found, ATOM
        if isinstance(g, Along):
            return self._along(g)
        if isinstance(g, Rows):
            both = self._full(g.inner, g.axes.left, g.axes.right, (0, 1), g.point)
            return f"{both}.sum(-1)[..., None]", ATOM
        if isinstance(g, Causal):
            rows, columns = (self._count(a, g.point) for a in (g.axes.left, g.axes.right))
            return self._array(f"np.tri({rows}, {columns})"), ATOM
        if isinstance(g, Weighed):
            return self._weighed(g)
        return super().leaf(g)

    def _array(self, text: str) -> str:
        module = self.speller.module
        return (
            text
            if module == "np"
            else f"torch.tensor({text}, dtype=dtype)"
            if module == "torch"
            else f"jnp.array({text})"
        )

    def _along(self, g: Along) -> Phrase:
        axes, of = g.by.axes or Axes(""), g.by.map
        sides = (g.point,) if g.point is not None else SIDES.get(g.how)
        given = axes.after(of) if g.transpose else axes
        c = self._full(g.inner, given, given, sides or (0, 1))
        if sides is None:
            call = "back" if g.transpose else "shared"
            self.helpers.add(call)
            A, B = self.matrices(of, axes, 0), self.matrices(of, axes, 1)
            eye = f"{self._array(f'np.eye({self._count(axes.after(of), 0)})')}"
            if not of.is_tied and g.transpose:
                c = f"{c} * {eye}"
            text = f"{call}({A}, {c}, {B})"
            return (f"{text} * {eye}", PRODUCT) if not of.is_tied and not g.transpose else (text, ATOM)
        for side in sides:
            m = self.matrix(of, axes, side)
            m = f"{m}.T" if g.transpose else m
            c = f"{m} @ {c}" if side == 0 else f"{c} @ {m}.T".replace(".T.T", "")
        return c, PRODUCT

    def _weighed(self, g: Weighed) -> Phrase:
        side = 0 if g.how == "left" else 1
        w = self._full(g.weights, g.axes.left, g.axes.right, (0, 1), side)
        w = f"{w}.T" if g.transpose else w
        read = g.axes.left if g.transpose else g.axes.right
        c = self._full(g.inner, read, read, (side,))
        return (f"{w} @ {c}" if side == 0 else f"{c} @ {w}.T".replace(".T.T", "")), PRODUCT

    def _full(self, p: Poly, left: Axes | None, right: Axes | None, sides: Sequence[int],
              owner: int | None = None) -> str:  # fmt: skip
        """An array at all positions of these sides, both of one input where an owner is named."""
        if set(sides) <= self.sides(p):
            return wrapped(self.phrase(p), ATOM)
        rows = self._count(left, 0 if owner is None else owner) if 0 in sides else "1"
        columns = self._count(right, 1 if owner is None else owner) if 1 in sides else "1"
        ones = self._array(f"np.ones(({rows}, {columns}))")
        return f"({wrapped(self.phrase(p), PRODUCT)} * {ones})"

    def sides(self, p: Poly) -> set[int]:
        """The sides along which the array that a polynomial stands for has all of its entries."""
        found = [set().union(*(self._sides_of(g) for g, _ in m)) for m in p.terms]
        return set.intersection(*found) if found else set()

    def _sides_of(self, g: Gen) -> set[int]:
        if g not in self._full_at:
            self._full_at[g] = self._sides(g)
        return self._full_at[g]

    def _sides(self, g: Gen) -> set[int]:
        if isinstance(g, At):
            return {0, 1} if isinstance(g, Whole) else {g.point}
        if isinstance(g, Along):
            if g.point is not None:
                return {g.point}
            return {0, 1} if g.how in ("shared", "both") else {0 if g.how == "left" else 1} | self.sides(g.inner)
        if isinstance(g, (Causal, Rows)):
            return {0, 1} if isinstance(g, Causal) else {0}
        if isinstance(g, Weighed):
            return {0 if g.how == "left" else 1} | self.sides(g.inner)
        if type(g) is Scalar:
            grams = self.d.trace.grams
            of = [grams[s] for s in {g.symbol} | g.symbol.free_symbols if s in grams]
            return {d.owner for pair in of for d in pair if d.axes is not None}
        return set().union(*(self.sides(q) for q in children(g)))

    # ---- maps ------------------------------------------------------------------------------------

    def _shape(self, axes: Axes | None, side: int) -> str:
        """The variable that holds sizes."""
        if axes is None:
            return "()"
        if not axes.maps:
            part = next(iter(self.d.trace.parts.over), None)
            of = f"x{side + 1}" if part is None else f'x{side + 1}["{sorted(self.d.trace.parts.over)[0]}"]'
            return f"{of}.shape[:-1]"
        before = Axes(axes.source, axes.maps[:-1])
        self.matrices(axes.maps[-1], before, side)
        return self._known[axes.maps[-1], before.maps, side][1] or self._shape(before, side)

    def _count(self, axes: Axes | None, side: int) -> str:
        if axes is None:
            return "1"
        shape = self._shape(axes, side)
        key = "count", shape
        if key not in self._known:
            number = 1 + sum(k[0] == "count" for k in self._known)
            self._known[key] = f"n{number}"
            self.head.append(f"n{number} = int(np.prod({shape}))")
        return str(self._known[key])

    def matrices(self, of: Map, axes: Axes, side: int) -> str:
        """The variable that holds a matrix for every offset."""
        of = Everywhere() if isinstance(of, Everywhere) else of
        key = of, axes.maps, side
        if key not in self._known:
            shape = self._shape(axes, side)
            number = 1 + sum(isinstance(k[0], Map) and k[2] == side for k in self._known)
            name, after = f"{'AB'[side]}{number}", f"shape{side + 1}_{number}"
            if isinstance(of, Window):
                self.helpers.add("window")
                options = [repr(of.kernel)]
                options += [f"{k}={getattr(of, k)!r}" for k, v in (("stride", 1), ("dilation", 1), ("padding", "same"))
                            if getattr(of, k) != v]  # fmt: skip
                self.head.append(f"{name}, {after} = window({shape}, {', '.join(options)})")
            elif isinstance(of, Everywhere):
                self.helpers.add("everywhere")
                self.head.append(f"{name}, {after} = everywhere({shape})")
            elif isinstance(of, Given):
                self.helpers |= {"graph", "root"}
                options = [repr(of.normalise)] + ([f"{of.loops}"] if of.loops else [])
                self.head.append(f'{name} = graph(x{side + 1}["{of.name}"], {", ".join(options)})')
                after = ""
            else:
                raise NoRuleError(f"the map {of} between positions has no words in the exported code")
            if self.speller.module == "torch":
                self.head.append(f"{name} = {name}.to(dtype)")
            self._known[key] = name, after
        return str(self._known[key][0])

    def matrix(self, of: Map, axes: Axes, side: int) -> str:
        """The matrix of a sum over positions."""
        name = self.matrices(of, axes, side)
        return name if isinstance(of, Given) else f"{name}.mean(0)" if of.is_mean else f"{name}.sum(0)"

    # ---- data ------------------------------------------------------------------------------------

    def scalar(self, g: Scalar) -> Phrase:
        grams = self.d.trace.grams
        if g.symbol in grams:
            return self.dot(*grams[g.symbol]), ATOM
        held = {s: self.dot(*grams[s]) for s in g.symbol.free_symbols & grams.keys()}
        return Speller(self.speller.module, {**self.speller.symbols, **held}).expr(g.symbol)

    def dot(self, p: Datum, q: Datum) -> str:
        """The variable that holds inner products of what is embedded."""
        key = str(p), str(q), p.owner, q.owner
        if key not in self._known:
            name = f"G{p.owner + 1}{q.owner + 1}"
            name += f"_{1 + sum(str(v).startswith(name) for v in self._known.values())}" if name in map(
                str, self._known.values()) else ""  # fmt: skip
            self._known[key] = name
            self.head += self._gram(name, p, q)
        return str(self._known[key])

    def _gram(self, name: str, p: Datum, q: Datum) -> list[str]:
        a, b = self._rows(p), self._rows(q)
        if p.owner != q.owner:
            text = f"{a} @ {b}.T / {a}.shape[-1]"
        else:
            text = f"(({a} * {a}).sum(-1) / {a}.shape[-1])[{':, None' if p.owner == 0 else 'None, :'}]"
        if p.by is None or p.by.axes is None:
            return [f"{name} = {text}"]
        of, axes = p.by.map, p.by.axes
        if p.owner != q.owner:
            self.helpers.add("shared")
            A, B = self.matrices(of, axes, 0), self.matrices(of, axes, 1)
            eye = "" if of.is_tied else f" * {self._array(f'np.eye({self._count(axes.after(of), 0)})')}"
            return [f"{name} = shared({A}, {text}, {B}){eye}"]
        m = self.matrix(of, axes, p.owner)
        return [f"{name} = {m} @ {text}" if p.owner == 0 else f"{name} = {text} @ {m}.T"]

    def _rows(self, p: Datum) -> str:
        """What is embedded, (P, d)."""
        key = "rows", p.owner, p.part
        if key not in self._known:
            x = f"x{p.owner + 1}" + ("" if p.part is None else f'["{p.part}"]')
            name = f"{'ab'[p.owner]}{'' if p.part is None else '_' + p.part}"
            self._known[key] = name
            row = f"{x}.reshape(-1, {x}.shape[-1])" if p.axes is not None else f"{x}[None, :]"
            self.head.append(f"{name} = {row}")
        return str(self._known[key])
