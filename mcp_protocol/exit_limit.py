"""A time limit for the shutdown that holds even while another thread does not release the GIL.

A library may hold the GIL for seconds: it collects garbage among a million objects, or loads a shared library. So the
limit has three parts: garbage collection stops; a thread ends the process with its status; and if that thread does not
get the GIL, the system's timer ends the process. None of these is set before Python's signal handler runs; for that
time, `MainLoop.ending_fd` tells other processes of the shutdown.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time

from operating_system import signals

EXIT_S = 1.4
"""The process ends this long after a signal: clients kill a server after 2 s, and the system needs up to a few tenths
of a second to remove a large process."""
ALARM_S = 1.6
"""The system's timer ends the process after this time, with SIGALRM. Windows has no such timer."""


def arm(status: int = 0) -> None:
    """Ends the process after `EXIT_S` with `status`, or after `ALARM_S`. Must be called on the main thread."""
    exit_at_s = time.monotonic() + EXIT_S  # measured here: the thread may start late on a busy machine
    gc.disable()
    gc.freeze()  # an explicit `gc.collect()` has nothing to traverse
    signals.end_process_after(ALARM_S)
    with contextlib.suppress(RuntimeError):  # no thread can be started
        threading.Thread(target=_exit_later, args=(exit_at_s, status), name="exit", daemon=True).start()


def _exit_later(exit_at_s: float, status: int) -> None:
    time.sleep(max(0.0, exit_at_s - time.monotonic()))
    os._exit(status)
