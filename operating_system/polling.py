"""Waits with `poll`, on Linux and macOS."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import stat
import sys

from operating_system.waiter import INPUT, READ_BYTES, READER_GONE, Waiter

assert sys.platform != "win32"

FEW_BYTES = 256
"""What is read at once when memory has run out: Python has such small blocks in reserve."""
_BROKEN = select.POLLERR | select.POLLHUP | select.POLLNVAL


class Polling(Waiter):
    """See `operating_system.waiting.waiting` for the arguments."""

    def __init__(self, in_fd: int | None, out_fd: int | None) -> None:
        self._in_fd = -1 if in_fd is None else in_fd
        self._out_fd = -1 if out_fd is None else out_fd
        self._wake_read_fd, self._wake_write_fd = os.pipe()
        self.ending_fd, self.signals_fd = os.pipe()
        for fd in (self._wake_read_fd, self._wake_write_fd, self.ending_fd, self.signals_fd):
            os.set_blocking(fd, False)
        self._poll = select.poll()
        for fd in (self._wake_read_fd, self.ending_fd, *(() if in_fd is None else (in_fd,))):
            self._poll.register(fd, select.POLLIN)
        if out_fd is not None and _can_be_polled(out_fd):
            self._poll.register(out_fd, select.POLLHUP)  # macOS reports it only where it is asked for

    def wake(self) -> None:
        """Ends the wait."""
        _write_byte(self._wake_write_fd)

    def announce_end(self) -> None:
        """Makes `ending_fd` readable, as a signal does."""
        _write_byte(self.signals_fd)

    def wait(self, timeout_s: float | None) -> int:
        """Waits, and returns the flags of what has happened."""
        flags = 0
        for fd, event in self._poll.poll(None if timeout_s is None else max(0.0, timeout_s * 1000 + 1)):
            if fd == self._in_fd:
                flags |= INPUT
            elif fd == self._out_fd:
                if event & _BROKEN:
                    flags |= READER_GONE
            else:
                os.read(fd, 4096)
        return flags

    def read(self) -> bytes | None:
        """Reads available input: `b""` at its end, None if nothing is available."""
        try:
            try:
                data = os.read(self._in_fd, READ_BYTES)
            except MemoryError:  # nothing has been read
                data = os.read(self._in_fd, FEW_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno != errno.EIO:  # the terminal has been closed
                raise
            data = b""
        if not data:
            self._poll.unregister(self._in_fd)
        return data


def _can_be_polled(fd: int) -> bool:
    """False for devices on macOS, which always reports them as broken."""
    return sys.platform != "darwin" or not stat.S_ISCHR(os.fstat(fd).st_mode)


def _write_byte(fd: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.write(fd, b"\0")
