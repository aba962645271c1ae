"""``python -m tensorprog``: the command line."""

import sys

from tensorprog.cli import main

if __name__ == "__main__":
    sys.exit(main())
