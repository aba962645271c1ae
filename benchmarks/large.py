"""A Gram matrix larger than memory allows: written block by block, killed twice, resumed, checked.

    python benchmarks/large.py [--inputs N] [--folder PATH]

Also the same call on a Dask cluster of this machine for fewer inputs.  Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import tensorprog as tp
from tensorprog import programs

D, DEPTH, MEMORY = 64, 3, 2**31


def data(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, D)).astype(np.float32)


def kernel() -> Any:
    return tp.ntk(programs.mlp(depth=DEPTH))


def work(count: int, path: Path) -> None:
    """All of it, in this process; its largest resident size in GiB."""
    kernel().gram(data(count), dtype=np.float32, path=path, memory=MEMORY)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)


def finished(path: Path) -> int:
    """Blocks in the journal."""
    journal = path.with_name(path.name + ".journal")
    return max(0, len(journal.read_text().splitlines()) - 1) if journal.exists() else 0


def killed_and_resumed(count: int, path: Path, kills: int = 2) -> dict[str, Any]:
    """Kill the process twice, each time after two more blocks, then let it finish."""
    command = [sys.executable, __file__, "--work", "--inputs", str(count), "--folder", str(path.parent)]
    after, start = [], time.perf_counter()
    for _ in range(kills):
        before = finished(path)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while finished(path) < before + 2 and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        after.append(finished(path))
    peak = float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    rows = [tuple(json.loads(line)) for line in path.with_name(path.name + ".journal").read_text().splitlines()[1:]]
    return {"seconds": time.perf_counter() - start, "blocks at each kill": after, "blocks": len(rows),
            "blocks noted twice": len(rows) - len(set(rows)), "peak GiB of the last process": peak}  # fmt: skip


def sampled(count: int, path: Path, samples: int = 20, size: int = 200) -> float:
    """The largest relative difference of random blocks from the kernel evaluated directly in double precision."""
    K, X, found, rng = kernel(), data(count).astype(np.float64), np.load(path, mmap_mode="r"), np.random.default_rng(1)
    off = 0.0
    for i, j in rng.integers(0, count - size, size=(samples, 2)):
        exact = K(X[i : i + size], X[j : j + size])
        off = max(off, float((np.abs(found[i : i + size, j : j + size] - exact) / np.abs(exact)).max()))
    return off


def on_cluster(count: int) -> dict[str, Any]:
    """Dask workers against one process."""
    from distributed import Client, LocalCluster

    K, X = kernel(), data(count)
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        start = time.perf_counter()
        found = K.gram(X, dtype=np.float32, client=client, block=1024)
        seconds = time.perf_counter() - start
    one = K.gram(X, dtype=np.float32)
    return {
        "inputs": count,
        "seconds": seconds,
        "largest relative difference": float((np.abs(found - one) / one).max()),
    }


def prepare(folder: Path, size: int) -> None:
    """Make a folder where it is missing.

    Raises:
        SystemExit: it cannot be made, or has no room.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemExit(f"--folder {folder} cannot be made: {error.strerror}") from error
    free = shutil.disk_usage(folder).free
    if free < size:
        raise SystemExit(f"--folder {folder} has {free / 2**30:.1f} GiB left, the matrix takes {size / 2**30:.1f}")


def main() -> None:
    """Print what was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--inputs", type=int, default=50_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.inputs, options.folder / "K.npy")
        return
    if options.folder is not None:
        prepare(options.folder, 4 * options.inputs**2)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "K.npy"
        found = {"inputs": options.inputs, "d": D, "bytes": 4 * options.inputs**2}
        found |= killed_and_resumed(options.inputs, path)
        found["largest relative difference on sampled blocks"] = sampled(options.inputs, path)
    found["Dask"] = on_cluster(5000)
    print(json.dumps(found, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
