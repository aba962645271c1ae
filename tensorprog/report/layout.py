"""Layered layout: columns, crossing reduction by barycentres, coordinates, curves (Sugiyama et al. 1981).

Nodes lie in bands, one below the other: bands with even numbers run from left to right, odd ones from right to
left, so that a backward pass comes to lie under its forward pass.  Column c lies between channels c and c + 1;
curves bend in channels only, and keep to rows of their own where they pass a column, so no curve crosses a node.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from tensorprog.report.scene import Point

SWEEPS, ROW_SWEEPS = 24, 80
ROW_GAP, TRACK_GAP, BAND_GAP = 12.0, 9.0, 34.0


@dataclass
class Node:
    """What takes a place: ``before`` and ``after`` are its extents along the flow, ``up`` and ``down`` across it.

    Curves arrive ``inlet`` before (x, y) and leave ``outlet`` after it.  ``anchored`` nodes follow what they read;
    the others are put next to what reads them.
    """

    key: Hashable
    band: int = 0
    before: float = 0.0
    after: float = 0.0
    up: float = 0.0
    down: float = 0.0
    inlet: float = 0.0
    outlet: float = 0.0
    anchored: bool = True
    track: bool = False
    column: int = 0
    x: float = 0.0
    y: float = 0.0

    @property
    def direction(self) -> int:
        """1 when its band runs from left to right, −1 otherwise."""
        return -1 if self.band % 2 else 1

    @property
    def entry(self) -> int:
        """The channel in which curves come in."""
        return self.column + (self.direction < 0)

    @property
    def exit(self) -> int:
        """The channel in which curves go out."""
        return self.column + (self.direction > 0)

    @property
    def left(self) -> float:
        """Its extent to the left of x."""
        return self.before if self.direction > 0 else self.after

    @property
    def right(self) -> float:
        """Its extent to the right of x."""
        return self.after if self.direction > 0 else self.before


@dataclass
class Edge:
    """A connection; edges of one source and one style share their tracks."""

    source: Node
    target: Node
    style: Hashable = None
    via: list[Node] = field(default_factory=list)

    @property
    def turns(self) -> bool:
        """Whether it arrives from the side to which its target's curves go on."""
        last = self.stops[-2]
        going_right = last.column < self.target.entry if self.via else self.source.direction > 0
        return going_right != (self.target.direction > 0)

    @property
    def stops(self) -> list[Node]:
        """The nodes and tracks that it connects, in order."""
        return [self.source, *self.via, self.target]


class Layout:
    """Places nodes, given in an order in which sources come before targets.

    After construction every node has ``column``, ``x`` and ``y``; ``curve(edge)`` is its path.
    """

    def __init__(self, nodes: list[Node], edges: list[Edge], margin: float = 0.0) -> None:
        self.nodes, self.edges = list(nodes), edges
        self._columns()
        self._tracks()
        self.beside: dict[int, dict[int, list[Node]]] = {s: defaultdict(list) for s in (-1, 1)}
        for a, b in self._links():
            self.beside[1][id(a)].append(b)
            self.beside[-1][id(b)].append(a)
        self.near: dict[int, list[Node]] = defaultdict(list)
        for a, b in {(id(a), id(b)): (a, b) for e in self.edges for a, b in pairwise(e.stops)}.values():
            if a.band == b.band:
                self.near[id(a)].append(b)
                self.near[id(b)].append(a)
        self.grid: dict[int, dict[int, list[Node]]] = defaultdict(lambda: defaultdict(list))
        for node in self.nodes:
            self.grid[node.band][node.column].append(node)
        self.tops: dict[int, float] = {}
        for band in sorted(self.grid):
            self._order(self.grid[band])
            self._rows(self.grid[band])
        self._stack()
        self._abscissae(margin)

    # ---- columns and tracks ------------------------------------------------------------------------

    def _columns(self) -> None:
        """Longest paths within a band; a band that depends on others stays as close to them as it can."""
        incoming, outgoing = defaultdict(list), defaultdict(list)
        for e in self.edges:
            incoming[id(e.target)].append(e.source)
            outgoing[id(e.source)].append(e.target)
        done: set[int] = set()
        for band in sorted({n.band for n in self.nodes}):
            members = [n for n in self.nodes if n.band == band]
            last = max((n.column for n in self.nodes if id(n) in done), default=0)
            for node in (n for n in members if n.anchored):
                near = [s for s in incoming[id(node)] if id(s) in done]
                if near:
                    self._follow(node, near)
                elif node.direction < 0:
                    node.column = last
                done.add(id(node))
            for node in (n for n in reversed(members) if not n.anchored):
                self._precede(node, [t for t in outgoing[id(node)] if t.band == band and id(t) in done])
                done.add(id(node))
        shift = min((n.column for n in self.nodes), default=0)
        for node in self.nodes:
            node.column -= shift

    @staticmethod
    def _follow(node: Node, sources: list[Node]) -> None:
        """Behind all that it reads in its band, and level with the last of the rest."""
        back = node.direction < 0
        own = [s.exit - back for s in sources if s.band == node.band]
        rest = [s.exit - back for s in sources if s.band != node.band and s.anchored]
        wanted = own + ([max(rest)] if rest else []) or [max(s.exit - back for s in sources)]
        node.column = min(wanted) if back else max(wanted)

    @staticmethod
    def _precede(node: Node, targets: list[Node]) -> None:
        """Right before the first that reads it."""
        if targets:
            columns = [t.column for t in targets]
            node.column = min(columns) - 1 if node.direction > 0 else max(columns) + 1

    def _tracks(self) -> None:
        """Where an edge passes columns, it is given tracks, which it shares with others of its source."""
        shared: dict[tuple[int, Hashable, int, int], Node] = {}
        for e in self.edges:
            a, b = e.source.exit, e.target.entry
            for column in range(a, b) if a < b else range(a - 1, b - 1, -1):
                key = (id(e.source), e.style, column, e.target.band)
                if key not in shared:
                    shared[key] = Node(key, e.target.band, track=True, column=column)
                    self.nodes.append(shared[key])
                e.via.append(shared[key])

    def _links(self) -> Iterator[tuple[Node, Node]]:
        """Pairs that are connected within a band through a channel, the left one first."""
        seen = set()
        for e in self.edges:
            for a, b in pairwise(e.stops):
                if a.band == b.band and abs(a.column - b.column) == 1 and (id(a), id(b)) not in seen:
                    seen.add((id(a), id(b)))
                    yield (a, b) if a.column < b.column else (b, a)

    # ---- order and rows within a band --------------------------------------------------------------

    def _order(self, grid: dict[int, list[Node]]) -> None:
        """Sweeps that sort each column by the mean position of its neighbours; the best order is kept."""
        best, fewest = {c: list(col) for c, col in grid.items()}, self._crossings(grid)
        for sweep in range(SWEEPS):
            if not fewest:
                break
            side = -1 if sweep % 2 == 0 else 1
            for c in sorted(grid, reverse=side > 0):
                place = {id(n): k for k, n in enumerate(grid.get(c + side, []))}
                own = {id(n): k for k, n in enumerate(grid[c])}
                both = {id(n): [place[id(m)] for m in self.beside[side][id(n)]] for n in grid[c]}
                grid[c].sort(key=lambda n: sum(both[id(n)]) / len(both[id(n)]) if both[id(n)] else own[id(n)])
            count = self._crossings(grid)
            if count < fewest:
                best, fewest = {c: list(col) for c, col in grid.items()}, count
        grid.update(best)

    def _crossings(self, grid: dict[int, list[Node]]) -> int:
        total = 0
        for c, col in grid.items():
            place = {id(n): k for k, n in enumerate(grid.get(c + 1, []))}
            ends = [sorted(place[id(m)] for m in self.beside[1][id(n)]) for n in col]
            for k, upper in enumerate(ends):
                total += sum(u > v for lower in ends[k + 1 :] for u in upper for v in lower)
        return total

    def _rows(self, grid: dict[int, list[Node]]) -> None:
        """y by repeated moves to the neighbours' mean, as near as the distances in the column allow."""
        for col in grid.values():
            _separate(col, [0.0] * len(col))
        for sweep in range(ROW_SWEEPS):
            for c in sorted(grid, reverse=bool(sweep % 2)):
                _separate(grid[c], [self._wanted(n) for n in grid[c]])

    def _wanted(self, node: Node) -> float:
        """The mean height of its neighbours; those that can move freely, and tracks, count little."""
        weights = [(0.2 if not m.anchored or m.track > node.track else 1.0, m.y) for m in self.near[id(node)]]
        total = sum(w for w, _ in weights)
        return sum(w * y for w, y in weights) / total if total else node.y

    def _stack(self) -> None:
        """Bands one below the other."""
        top = 0.0
        for band in sorted(self.grid):
            members = [n for col in self.grid[band].values() for n in col]
            shift = top - min(n.y - n.up for n in members)
            for n in members:
                n.y += shift
            self.tops[band] = top
            top = max(n.y + n.down for n in members) + BAND_GAP
        self.height = top - BAND_GAP if self.grid else 0.0

    # ---- abscissae and curves ------------------------------------------------------------------------

    def _abscissae(self, margin: float) -> None:
        """Channels as wide as their curves are high."""
        columns = defaultdict(list)
        for n in self.nodes:
            columns[n.column].append(n)
        rise: dict[int, float] = defaultdict(float)
        turns: dict[int, int] = defaultdict(int)
        for e in self.edges:
            channel = e.source.exit
            for a, b in pairwise(e.stops):
                rise[channel] = max(rise[channel], abs(a.y - b.y))
                turns[channel] += a.band != b.band
                channel += (b.column >= channel) or -1
        self.channels: dict[int, tuple[float, float]] = {}
        x, last = margin, max(columns, default=-1)
        for c in range(last + 2):
            inner = 0 < c <= last or rise[c] > 0
            width = min(24.0 + 0.10 * rise[c] + 5.0 * turns[c], 110.0) if inner else 4.0
            self.channels[c] = (x, x + width)
            x += width
            if c <= last:
                col = columns[c]
                centre = x + max((n.left for n in col), default=0.0)
                for n in col:
                    n.x = centre
                x = centre + max((n.right for n in col), default=0.0)
        self.width = x

    def curve(self, e: Edge, end: float | None = None) -> tuple[object, ...]:
        """The moves of an edge from its source to its target, where it arrives at height ``end``."""
        source, target = e.source, e.target
        start = source.x + source.direction * source.outlet
        channel = source.exit
        moves: list[object] = [("M", (start, source.y))]
        here, y = 1 if source.direction > 0 else -1, source.y
        for stop in [*e.via, target]:
            left, right = self.channels[channel]
            entering = 1 if stop.column >= channel else -1
            at = stop.y if stop is not target or end is None else end
            moves += _bend((left, right), (here, y), (entering, at))
            y, here = at, entering
            channel += entering
        moves.append(("L", (target.x - target.direction * target.inlet, y)))
        return tuple(moves)


def _bend(channel: Point, start: tuple[int, float], end: tuple[int, float]) -> Iterator[object]:
    """Through a channel, entered and left in directions ±1: an S, or a C where the direction turns."""
    (left, right), (a, y), (b, y2) = channel, start, end
    x, x2 = (left if a > 0 else right), (right if b > 0 else left)
    yield ("L", (x, y))
    if a == b and y == y2:
        yield ("L", (x2, y2))
        return
    reach = (right - left) * (0.55 if a == b else min(1.1, 0.5 + abs(y - y2) / 500))
    yield ("C", (x + a * reach, y), (x2 - b * reach, y2), (x2, y2))


def _separate(column: list[Node], wanted: list[float]) -> None:
    """The y nearest to the wanted ones (least squares) that keep order and distances: isotonic regression."""
    offsets = [0.0]
    for a, b in pairwise(column):
        gap = TRACK_GAP if a.track and b.track else ROW_GAP
        offsets.append(offsets[-1] + a.down + b.up + gap)
    blocks: list[list[float]] = []  # [mean, weight, count]
    for node, y, offset in zip(column, wanted, offsets, strict=True):
        blocks.append([y - offset, 0.3 if node.track else 1.0 if node.anchored else 0.1, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            m, w, k = blocks.pop()
            m0, w0, k0 = blocks[-1]
            blocks[-1] = [(m0 * w0 + m * w) / (w0 + w), w0 + w, k0 + k]
    level = (m for m, _, k in blocks for _ in range(int(k)))
    for node, m, offset in zip(column, level, offsets, strict=True):
        node.y = m + offset
