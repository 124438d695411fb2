"""The same exits as on the idle machine, with four other processes that use all their CPU time.

They start when the server is in its phase, 0.2 s before it is asked to exit: under such a load a server takes long to
reach a phase, but exits in the same way. "Status not 0" counts exits that needed the last resort, as above.
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
"""Counts until the benchmark ends."""


def measure(run: Run) -> Findings:
    """Stops servers in every phase, on an overloaded machine."""
    return exits.as_findings(exits.ends_by_case(run, _busy), "busy machine")


@contextlib.contextmanager
def _busy() -> Iterator[None]:
    """Processes that use all free CPU time."""
    counting = [subprocess.Popen([sys.executable, "-I", "-S", "-c", COUNT]) for _ in range(N_BUSY)]
    try:
        time.sleep(SETTLE_S)
        yield
    finally:
        for process in counting:
            process.kill()
            process.wait()
