"""The same ends as on the idle machine, with four processes beside the server that do nothing but count.

They begin when the server is in its phase, and 0.2 s before it is asked to end: a server under such a load takes long
to get into a phase, but leaves it in the same way. "Status not 0" counts the ends that needed the last resort, as
above.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks import exits
from benchmarks.results import Findings
from benchmarks.run import Run

TITLE = "Exit times on a busy machine"
N_BUSY = 4
SETTLE_S = 0.2
COUNT = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: sum(range(10_000))"
"""Counts for as long as the benchmark is there."""


def measure(run: Run) -> Findings:
    """Ends servers in every phase, on a machine that has more to do than it can."""
    return exits.as_findings(exits.ends_by_case(run, _busy), "busy machine")


@contextlib.contextmanager
def _busy() -> Iterator[None]:
    """Some processes that take whatever the processors have to give."""
    counting = [subprocess.Popen([sys.executable, "-I", "-S", "-c", COUNT]) for _ in range(N_BUSY)]
    try:
        time.sleep(SETTLE_S)
        yield
    finally:
        for process in counting:
            process.kill()
            process.wait()
