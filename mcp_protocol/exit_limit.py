"""The end of the process in time, also where a thread holds Python's lock and does not let go.

With a model in the process, a library may hold the lock for seconds: it collects garbage among a million objects, or
loads a shared library. So the limit has three parts: no garbage is collected any more; a thread ends the process with
its status; and where that thread does not get the lock, the system's timer ends the process without asking Python.
Before our handler of signals has got the lock, none of these is set: until then the engine's guard watches, which is a
process of its own.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import threading
import time

EXIT_S = 1.4
"""When the process ends after a signal, whatever still hangs: clients kill a server after 2 s, and the system takes up
to a few tenths of a second to clear away a process with a model."""
ALARM_S = 1.6
"""When the system ends it; its status then tells of SIGALRM."""


def arm(status: int = 0) -> None:
    """Lets the process live for no more than `EXIT_S`, or `ALARM_S`; called by the main thread."""
    exit_at_s = time.monotonic() + EXIT_S  # not when the thread begins: on a busy machine the alarm would be earlier
    gc.disable()
    gc.freeze()  # a collection that somebody asks for finds nothing to look at
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        signal.setitimer(signal.ITIMER_REAL, ALARM_S)
    with contextlib.suppress(RuntimeError):  # the system gives no thread
        threading.Thread(target=_exit_later, args=(exit_at_s, status), name="exit", daemon=True).start()


def _exit_later(exit_at_s: float, status: int) -> None:
    time.sleep(max(0.0, exit_at_s - time.monotonic()))
    os._exit(status)
