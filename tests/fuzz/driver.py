"""Cases in a process of their own, by one rule: an answer, or an error of the package, within a time and a memory."""

import json
import os
import select
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.choices import smaller

KINDS = ("program files", "command lines", "arrays", "arguments", "networks", "programs")
BUSY, WALL, EACH = 60, 1800, 300  # seconds of processor time, and of wall time, for a case; cases for one process


class Worker:
    """A process that tries cases, started anew where one did not end."""

    def __init__(self):
        self.process, self.done = None, 0

    def ask(self, **request):
        """What the worker answers; a case that ends or blocks it is a finding."""
        if self.process is None or self.done >= EACH:
            self.close()
            self.process, self.done = self.start(), 0
        self.done += 1
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
            line = self.read()
        except BrokenPipeError:
            line = b""
        if line is not None and line.endswith(b"\n"):
            return json.loads(line)
        how = "no end" if line is None else f"the process died ({self.process.wait(10)})"
        self.close()
        return {"found": [how, ""], "text": "", "given": request.get("given", [])}

    def start(self):
        return subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2],
        )

    def read(self):
        """A line, b"" where the process is gone, None where nothing comes in time."""
        end, busy, line = time.monotonic() + WALL, self.busy() + BUSY, b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self.process.stdout], [], [], min(5, WALL))
            if not ready and (time.monotonic() > end or self.busy() > busy):
                return None
            if not ready:
                continue
            part = os.read(self.process.stdout.fileno(), 2**16)
            if not part:
                return b""
            line += part
        return line

    def busy(self):
        """Seconds of processor time that the process has had; a loaded machine gives few of them."""
        try:
            after = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it is gone
            return 0.0
        return sum(map(int, after[11:13])) / os.sysconf("SC_CLK_TCK")

    def close(self):
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def signature(answer):
    """Findings with the same one are one: the class of an error and where it was."""
    words, where = answer["found"]
    return words.partition(":")[0], where


def fuzz(seconds, seed=0, kinds=KINDS, journal=None, tell=lambda text: None):
    """Counts of cases by kind, and what was found, within a time.

    Args:
        seconds: of wall time; the case that runs then ends by its own limit.
        journal: a file to which every finding is appended with its choices.
        tell: called with the text of every new finding.
    """
    counts, found, worker, end = Counter(), {}, Worker(), time.monotonic() + seconds
    try:
        while time.monotonic() < end:
            kind, number = kinds[seed % len(kinds)], seed
            seed += 1
            answer = worker.ask(kind=kind, seed=number)
            counts[kind] += 1
            if answer["found"] is None or (kind, *signature(answer)) in found:
                continue
            found[kind, *signature(answer)] = report = shrunk(worker, kind, number, answer)
            tell(f"{kind}, seed {number}: {report['found'][0]} [{report['found'][1]}]\n    {report['text']}")
            if journal is not None:
                with open(journal, "a") as file:
                    file.write(json.dumps({"kind": kind, "seed": number, **report}) + "\n")
    finally:
        worker.close()
    return counts, list(found.values())


def shrunk(worker, kind, number, answer):
    """The finding with fewer choices, where it is one of seconds."""
    last = answer
    if answer["found"][0].startswith(("no end", "the process")):
        return answer

    def fails(given):
        nonlocal last
        again = worker.ask(kind=kind, given=given)
        same = again["found"] is not None and signature(again) == signature(answer)
        last = again if same else last
        return same

    smaller(answer["given"], fails)
    return last
