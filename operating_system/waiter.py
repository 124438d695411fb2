"""The interface of waiting for input, a wake-up by another thread, a signal, or a reader that has gone."""

from __future__ import annotations

READ_BYTES = 1 << 16
INPUT, READER_GONE = 1, 2
"""Flags of what has happened; neither is set after a wake-up, a signal or a timeout."""


class Waiter:
    """Waits on the main thread; any thread may wake it.

    `signals_fd` is for `signal.set_wakeup_fd`. `ending_fd` is a pipe that is readable after a signal, even while
    another thread holds the GIL; -1 where child processes cannot use it.
    """

    signals_fd: int
    ending_fd: int = -1

    def wake(self) -> None:
        """Ends the wait."""
        raise NotImplementedError

    def announce_end(self) -> None:
        """Makes `ending_fd` readable, as a signal does."""
        raise NotImplementedError

    def wait(self, timeout_s: float | None) -> int:
        """Waits, and returns the flags of what has happened."""
        raise NotImplementedError

    def read(self) -> bytes | None:
        """Reads available input: `b""` at its end, None if nothing is available."""
        raise NotImplementedError
