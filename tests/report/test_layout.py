"""The layout: columns follow the flow, no two nodes meet, curves bend between columns only."""

import itertools
import random

import pytest

from tensorprog.report.layout import Edge, Layout, Node


def laid_out(count, links, band=lambda k: 0):
    nodes = [Node(k, band(k), before=20, after=10, up=8, down=14, inlet=20, outlet=6) for k in range(count)]
    edges = [Edge(nodes[a], nodes[b]) for a, b in links]
    return nodes, edges, Layout(nodes, edges)


def boxes(layout):
    return [(n.x - n.left, n.y - n.up, n.x + n.right, n.y + n.down) for n in layout.nodes if not n.track]


def overlap(a, b):
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def random_graph(seed, bands=1):
    rng = random.Random(seed)
    count = rng.randint(2, 30)
    links = {(rng.randrange(b), b) for b in range(1, count) for _ in range(rng.randint(0, 3))}
    return count, sorted(links), lambda k: k * bands // count


@pytest.mark.parametrize("bands", [1, 2, 3])
@pytest.mark.parametrize("seed", range(12))
def test_nodes_keep_their_distance_and_follow_the_flow(seed, bands):
    _, edges, layout = laid_out(*random_graph(seed, bands))
    assert not any(overlap(a, b) for a, b in itertools.combinations(boxes(layout), 2))
    for e in edges:
        if e.source.band == e.target.band:
            assert (e.target.column - e.source.column) * e.source.direction >= 1
        else:
            assert e.source.y < e.target.y


@pytest.mark.parametrize("seed", range(8))
def test_curves_end_at_their_nodes_and_bend_in_channels(seed):
    _, edges, layout = laid_out(*random_graph(seed, 3))
    for e in edges:
        moves = layout.curve(e)
        assert moves[0][1] == (e.source.x + e.source.direction * 6, e.source.y)
        assert moves[-1][1] == pytest.approx((e.target.x - e.target.direction * 20, e.target.y))
        before = moves[0][1]
        for move in moves[1:]:
            if move[0] == "C":  # a cubic stays within its control points; those of a turn overshoot by a third at most
                ends = sorted((before[0], move[3][0]))
                assert any(l - 1e-9 <= ends[0] and ends[1] <= r + 1e-9 for l, r in layout.channels.values())
            else:
                assert move[1][1] == pytest.approx(before[1])
            before = move[-1]


def test_crossings_that_can_be_avoided_are_avoided():
    links = [(0, 5), (1, 4), (2, 3), (3, 8), (4, 7), (5, 6)]  # three chains, listed so that they cross
    _, _, layout = laid_out(9, links)
    assert layout._crossings(layout.grid[0]) == 0
    nodes = layout.nodes
    assert {nodes[a].y for a, b in links} == {nodes[b].y for a, b in links}  # and straight


def test_a_backward_band_lies_under_what_it_reads():
    # forward 0 → 1 → 2, backward 3 (reads 2) → 4 (reads 1) → 5 (reads 0)
    nodes, _, _ = laid_out(6, [(0, 1), (1, 2), (2, 3), (1, 4), (3, 4), (0, 5), (4, 5)], lambda k: k // 3)
    assert [n.column for n in nodes] == [0, 1, 2, 2, 1, 0]
    assert min(n.y for n in nodes[3:]) > max(n.y for n in nodes[:3])
