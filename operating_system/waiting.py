"""How the main thread waits on this system."""

from __future__ import annotations

import os
import sys

from operating_system.waiter import Waiter


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


def wait_until_writable(fd: int) -> None:
    """Waits until a non-blocking descriptor takes more bytes. Windows cannot wait for a pipe, and tries again."""
    if sys.platform == "win32":
        import time

        time.sleep(0.01)
    else:
        import select

        poll = select.poll()
        poll.register(fd, select.POLLOUT)
        poll.poll()
