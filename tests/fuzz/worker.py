"""A process that tries cases, one a line, within a time and a memory: ``python -m tests.fuzz.worker``."""

import json
import os
import resource
import signal
import sys
import traceback
import warnings

import tensorprog as tp
from tests.fuzz.choices import Choices
from tests.fuzz.kinds import KINDS

SECONDS, MEMORY = 30, 4 * 2**30  # of processor time, of one case; beside what the process has from the start


class LateError(BaseException):
    """A case took longer than it may."""


def limit_memory():
    """No more memory than now and ``MEMORY``."""
    with open("/proc/self/statm") as file:
        size = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, resource.RLIM_INFINITY))


def attempt(kind, choices):
    """What a case is, and what was not an answer or an error of the package, with where that was."""
    late, text = [], ""

    def stop(*_):
        late.append(True)
        raise LateError

    previous = signal.signal(signal.SIGPROF, stop)
    found = None
    try:
        text, run = KINDS[kind](choices)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run()
    except tp.TensorProgramError:
        pass
    except BaseException as error:
        found = (f"{type(error).__name__}: {str(error)[:300]}", place(error))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)
    if late:  # what ran may have turned the exception into another one
        found = (f"no end within {SECONDS} s", found[1] if found else "")
    return text, found


def place(error):
    """The last frames of the package."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f"{os.sep}tensorprog{os.sep}" in f.filename]
    return " ".join(f"{os.path.basename(f.filename)}:{f.name}" for f in frames[-2:])


def main():
    """Answer lines of requests; what cases print is lost."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    limit_memory()
    for line in sys.stdin:
        request = json.loads(line)
        choices = Choices(request.get("seed"), request.get("given"))
        text, found = attempt(request["kind"], choices)
        answers.write(json.dumps({"found": found, "text": text[:2000], "given": choices.taken}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
