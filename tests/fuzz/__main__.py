"""``python -m tests.fuzz --seconds 600``: tries odd inputs, and prints how many there were and what was not right."""

import argparse
import sys

from tests.fuzz.driver import KINDS, Worker, fuzz

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0, help="of the first case; the next ones have the next numbers")
    parser.add_argument("--kind", action="append", choices=KINDS, help="only these kinds")
    parser.add_argument("--journal", default="fuzz.jsonl", help="where findings are kept, with their choices")
    parser.add_argument("--again", nargs=2, metavar=("KIND", "SEED"), help="one case, for a look at it")
    a = parser.parse_args()
    if a.again:
        worker = Worker()
        answer = worker.ask(kind=a.again[0], seed=int(a.again[1]))
        worker.close()
        print(answer["text"], answer["found"], sep="\n")
        sys.exit(answer["found"] is not None)
    counts, found = fuzz(a.seconds, a.seed, a.kind or KINDS, a.journal, lambda text: print(text, flush=True))
    print(f"{counts.total()} inputs: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()))
    print(f"{len(found)} findings, in {a.journal}" if found else "every one had an answer or an error of the package")
    sys.exit(bool(found))
