"""How the main thread waits on this system."""

from __future__ import annotations

import os
import select
import sys
import time

from operating_system.waiter import Waiter

STEP_S = 0.1
"""How long a call of the system may block on the thread that handles signals."""


def waiting(in_fd: int | None = None, out_fd: int | None = None) -> Waiter:
    """Waits for these descriptors, for wake-ups and for signals.

    Arguments:
        in_fd: the input, if any.
        out_fd: the output whose reader may go away, if any. On Windows only a write notices that.
    """
    if sys.platform == "win32" or (sys.platform == "darwin" and in_fd is not None and os.isatty(in_fd)):
        from operating_system.carried_input import CarriedInput

        return CarriedInput(in_fd)
    else:  # noqa: RET505 - mypy must know which systems have `poll`
        from operating_system.polling import Polling

        return Polling(in_fd, out_fd)


def write_some(fd: int, data: memoryview, *, signals_wait: bool) -> int:
    """Writes at least a byte and returns how many; waits for a reader that stands still.

    Arguments:
        fd: a pipe, a socket or a file, blocking or not.
        data: what to write.
        signals_wait: whether signals are handled on this thread. A signal that comes between Python's last look for
            signals and a call that blocks does not interrupt that call: its handler would wait for the reader, so here
            no call blocks for longer than `STEP_S`. That costs a few microseconds.

    Raises: `OSError`, e.g. where the reader has gone.
    """
    if signals_wait and sys.platform != "win32":
        wait_until_writable(fd)
        data = data[: select.PIPE_BUF]  # a writable pipe takes so much without blocking
    while True:
        try:
            return os.write(fd, data)
        except BlockingIOError:  # the client may have made its end, and so this one, non-blocking
            wait_until_writable(fd)


def wait_until_writable(fd: int) -> None:
    """Waits until a descriptor takes more bytes. Windows cannot wait for a pipe, and tries again."""
    if sys.platform == "win32":
        time.sleep(0.01)
    else:
        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        while not poll.poll(STEP_S * 1000):
            continue


def wait_until_readable(fd: int) -> None:
    """Waits for input, for its end or for a signal's exception, before a read that would miss a signal as a write does.

    Windows ends a read on Ctrl-C by itself, and cannot wait for a terminal.
    """
    if sys.platform != "win32":
        while not select.select([fd], [], [], STEP_S)[0]:
            continue
