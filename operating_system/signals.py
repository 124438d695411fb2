"""The signals that stop the server, and the system's timer, which ends the process whatever Python does.

Windows has no timer, and nothing can handle `TerminateProcess`, which stands for SIGTERM there: clients end the input
instead. Ctrl-C and Ctrl-Break are signals there too.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType

Handler = Callable[[int, FrameType | None], object]

if sys.platform == "win32":
    STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGBREAK)
else:
    STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def on_stop(handler: Handler, wakeup_fd: int) -> None:
    """Calls `handler` on the main thread for each of these signals; a byte is written to `wakeup_fd` before."""
    signal.set_wakeup_fd(wakeup_fd, warn_on_full_buffer=False)
    for number in STOP_SIGNALS:
        signal.signal(number, handler)
    if sys.platform != "win32":  # the client may have blocked them in its child processes
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def end_process_after(seconds: float) -> None:
    """Makes the system end this process with SIGALRM, even while no Python code can run. Does nothing on Windows."""
    if sys.platform != "win32":
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        signal.setitimer(signal.ITIMER_REAL, seconds)
