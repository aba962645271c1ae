"""docs/performance.md and its plot, from the results of ``gram.py``."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

DOCS = Path(__file__).resolve().parent.parent / "docs"
START, END = "<!-- gram -->", "<!-- end of gram -->"
SIDES = ("floor", "NumPy", "neural-tangents")


def ratio(other: list[float], ours: list[float]) -> str:
    """Of medians, with the range over the rounds where both were measured in all of them."""
    middle = statistics.median(other) / statistics.median(ours)
    each = [a / b for a, b in zip(other, ours, strict=False)]
    return f"{middle:.1f} ({min(each):.1f}–{max(each):.1f})" if len(other) == len(ours) > 1 else f"{middle:.1f}"


def table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> list[str]:
    head = list(head)
    lines = [head, ["---"] * len(head), *map(list, rows)]
    return ["| " + " | ".join(map(str, line)) + " |" for line in lines] + [""]


def gram_table(rows: list[dict[str, Any]]) -> list[str]:
    """Seconds of ours, and how many times as long the others take."""
    lines = []
    for r in sorted(rows, key=lambda r: (r["N"], r["dtype"] == "float32", r["phi"], r["depth"], r["d"])):
        s = r["seconds"]
        ours = s["compiled"]
        others = [ratio(s[k], ours) if k in s else "" for k in SIDES[1:]]
        medians = (statistics.median(s[k]) for k in ("compiled", "into out"))
        lines.append([r["phi"], r["depth"], r["N"], r["d"], r["dtype"], *(f"{m:.3f}" for m in medians),
                      ratio(s["into out"], s["floor"]), *others])  # fmt: skip
    head = ["φ", "depth", "N", "d", "dtype", "seconds", "into `out=`", "of it over the floor", "NumPy takes",
            "neural-tangents takes"]  # fmt: skip
    return table(head, lines)


def bound(m: dict[str, Any]) -> int:
    """Bytes of results, inputs and one N×N buffer."""
    return int(m["results"] * 3 // 2 + m["inputs"])


def other_lines(found: dict[str, Any]) -> list[str]:
    """tanh, sequences, latency and memory."""
    lines = []
    if "tanh" in found:
        t = found["tanh"]
        ours, s = t["seconds"]["compiled"], t["seconds"]
        text = (f"tanh, depth {t.get('depth', 1)}, N = {t['N']}: {statistics.median(ours):.3f} s, "
                f"largest error of {t['pairs']} pairs {t['errors']['compiled']:.0e}")  # fmt: skip
        if "neural-tangents" in s:
            text += (f"; neural-tangents' `ElementwiseNumerical` (degree 25) takes {ratio(s['neural-tangents'], ours)} "
                     f"times as long, error {t['errors']['neural-tangents']:.0e}")  # fmt: skip
        lines.append(f"- {text}.")
    if "sequences" in found:
        r = found["sequences"]
        parts = ", ".join(f"{k} {statistics.median(v):.2f} s" for k, v in r["seconds"].items())
        lines.append(f"- RNN, NNGP and NTK, all pairs of {r['size']} sequences of length {r['size']}: {parts}.")
    if "latency" in found:
        lines.append(f"- A call on 10 inputs: {1e3 * statistics.median(found['latency']):.2f} ms.")
    for m in found.get("memory", []):
        own = (m["results"] + m["inputs"]) / 2**30
        shares = f"of which results and inputs {own:.2f}; {m['peak'] / bound(m):.2f} of these and one N×N buffer"
        lines.append(
            f"- Peak memory, depth {m['depth']}, N = {m['N']}, d = {m['d']}: {m['peak'] / 2**30:.2f} GiB, {shares}."
        )
    if "machine" in found:
        m = found["machine"]
        wide = ", AVX-512" if m["wide"] else ""
        lines.append(f"- {m['processor']}, {m['cores']} cores{wide}; Python {m['python']}, NumPy {m['numpy']}, SciPy "
                     f"{m['scipy']}, numba {m['numba']}; neural-tangents with jax 0.4.25.")  # fmt: skip
    return [*lines, ""]


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Seconds of every side, one group of bars for each setting in double precision."""
    rows = [r for r in rows if r["dtype"] == "float64" and r["d"] == 784]
    names = ("floor", "into out", "compiled", "NumPy", "neural-tangents")
    figure, axes = plt.subplots(figsize=(9, 4.2), layout="constrained")
    for k, name in enumerate(names):
        bars = [(x + 0.16 * (k - 2), statistics.median(r["seconds"][name])) for x, r in enumerate(rows)
                if name in r["seconds"]]  # fmt: skip
        axes.bar([x for x, _ in bars], [y for _, y in bars], 0.15, label=name)
    axes.set_xticks(range(len(rows)), [f"{r['phi']}\ndepth {r['depth']}\nN = {r['N']}" for r in rows])
    axes.set(yscale="log", ylabel="seconds", title="NNGP and NTK together, d = 784, float64, two threads")
    axes.legend(ncols=5, fontsize="small")
    figure.savefig(path, dpi=120)


def write_docs(results: Path) -> None:
    """Replace the section of docs/performance.md."""
    found = json.loads(results.read_text())
    rows = [v for v in found.values() if isinstance(v, dict) and "dtype" in v]
    plot(sorted(rows, key=lambda r: (r["N"], r["phi"], r["depth"])), DOCS / "performance.png")
    text = [
        "## Gram matrices", "",
        "NNGP and NTK of fully connected networks in one call, two threads on every side, all sides in turn in one",
        "run; medians, with the range of the ratio over the rounds.  The floor is a symmetric product of the inputs by",
        "BLAS and a loop written for this network alone, without mirroring, both into arrays that were touched.",
        "neural-tangents 0.6.5 after its compilation; NumPy writes the recursion down, arccos by arccos.  Every side",
        "runs with the allocator's defaults and makes new results, whose first touch counts; `out=` takes arrays that",
        "were touched.",
        "Made by `make bench-peers` and", "", "    python benchmarks/gram.py --full --write-docs", "",
        *gram_table(rows), "![Seconds of every side](performance.png)", "", *other_lines(found),
    ]  # fmt: skip
    path = DOCS / "performance.md"
    old = path.read_text()
    before, _, rest = old.partition(START)
    after = rest.partition(END)[2]
    path.write_text(before.rstrip() + f"\n\n{START}\n" + "\n".join(text) + f"{END}\n" + after)
