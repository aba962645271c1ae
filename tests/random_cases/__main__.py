"""Random networks and programs, every way to their numbers against every other.

``python -m tests.random_cases --networks 5000 --programs 5000 --seed 0 --jobs 2`` goes on where it was interrupted,
says how far it is, and ends with what was compared, what was refused, and every disagreement as a short script; its
exit status is 1 when there was one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, TextIO

ROOT = Path(__file__).parents[2]
STRIDE = 10**6  # between the cases of two seeds
BATCH = 300  # cases of a process


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit status."""
    options = _options(argv)
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = "1"
    counts = (("net", options.networks), ("program", options.programs), ("layers", options.layers))
    wanted = [(kind, options.seed * STRIDE + i) for kind, count in counts for i in range(count)]
    wanted.sort(key=lambda task: task[1])
    path = Path(options.journal or ROOT / "out" / "random_cases" / f"{_digest()}.jsonl")
    known = {(r["kind"], r["seed"]): r for r in _read(path)}
    left = [(*task, options.seconds) for task in wanted if task not in known]
    path.parent.mkdir(parents=True, exist_ok=True)
    print(f"{len(wanted)} cases, {len(wanted) - len(left)} of them known from {path}", flush=True)
    records = [known[task] for task in wanted if task in known]
    with path.open("a") as journal:
        records += _run(left, options.jobs, journal)
    return summary(records)


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.random_cases", description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=200, help="how many networks (200)")
    parser.add_argument("--programs", type=int, default=200, help="how many programs (200)")
    parser.add_argument("--layers", type=int, default=0, help="how many networks of norms, attention and gates (0)")
    parser.add_argument("--seed", type=int, default=0, help="other seeds give other cases (0)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (one per core)")
    parser.add_argument("--seconds", type=float, default=4.0, help="of processor time that one way may take (4)")
    parser.add_argument("--journal", help="file of the results so far (out/random_cases/<version>.jsonl)")
    return parser.parse_args(argv)


def _digest() -> str:
    """Of the code that is tested and of the cases: results of other versions are not taken over."""
    found = hashlib.sha256()
    for path in sorted([*ROOT.glob("tensorprog/**/*.py"), *ROOT.glob("tests/random_cases/*.py")]):
        found.update(path.read_bytes())
    return found.hexdigest()[:12]


def _read(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a journal, without a last line that was torn."""
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def _run(tasks: list[Any], jobs: int, journal: TextIO) -> list[dict[str, Any]]:
    """The records of the tasks, written as they come; a case that ends its process is a fault."""
    records: list[dict[str, Any]] = []
    start = time.monotonic()
    shown = [start]

    def keep(record: dict[str, Any]) -> None:
        records.append(record)
        journal.write(json.dumps(record) + "\n")
        journal.flush()
        for fault in record["faults"]:
            print(f"\n{fault['text']}", flush=True)
        if time.monotonic() - shown[0] > 5:
            shown[0] = time.monotonic()
            _progress(len(records), len(tasks), shown[0] - start, sum(len(r["faults"]) for r in records))

    for first in range(0, len(tasks), BATCH * jobs):  # new processes from time to time: what is derived stays in memory
        left = tasks[first : first + BATCH * jobs]
        while left:
            left = _some(left, jobs, keep)
            for task in left[:jobs]:  # one of these has ended its process
                if _some([task], 1, keep):
                    keep(_died(task))
            left = left[jobs:]
    return records


def _some(tasks: list[Any], jobs: int, keep: Callable[[dict[str, Any]], None]) -> list[Any]:
    """Run tasks until they are done or a process ends; return what is left."""
    from tests.random_cases.examine import task as one

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        futures = {pool.submit(one, task): task for task in tasks}
        try:
            for future in as_completed(list(futures)):
                keep(future.result())
                del futures[future]
        except BrokenProcessPool:
            pass
    return list(futures.values())


def _died(task: Any) -> dict[str, Any]:
    kind, seed, _ = task
    faults = [{"label": f"{kind}: the process ended", "text": f"# {kind} of seed {seed}: the process ended"}]
    return {"kind": kind, "seed": seed, "seconds": 0, "cases": {}, "compared": {}, "skipped": {}, "faults": faults}


def _progress(done: int, count: int, elapsed: float, faults: int) -> None:
    left = elapsed / done * (count - done)
    print(f"{done}/{count} cases, {faults} disagreements, {left / 60:.0f} min left", file=sys.stderr, flush=True)


def summary(records: Iterable[dict[str, Any]]) -> int:
    """Print what was found; 1 when something disagrees."""
    records = list(records)
    totals = {name: Counter[str]() for name in ("cases", "compared", "skipped")}
    for record in records:
        for name, counter in totals.items():
            counter.update(record[name])
    print(f"\n{len(records)} cases, {sum(r['seconds'] for r in records):.0f} s of processor time")
    for name, heading in (("compared", "comparisons"), ("skipped", "refused")):
        print(f"\n{heading}: {totals[name].total()}")
        for what, count in sorted(totals[name].items(), key=lambda item: -item[1]):
            print(f"  {count:7d}  {what}")
    labels = Counter(fault["label"] for r in records for fault in r["faults"])
    print(f"\ndisagreements: {labels.total()}")
    for label, count in labels.most_common():
        seeds = [r["seed"] for r in records for fault in r["faults"] if fault["label"] == label]
        print(f"  {count:7d}  {label}  (seeds {', '.join(map(str, seeds[:5]))})")
    return 1 if labels else 0


if __name__ == "__main__":
    sys.exit(main())
