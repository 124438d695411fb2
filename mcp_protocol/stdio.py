"""Stdin and stdout as a private wire that nothing else in the process can touch.

`guard` moves both to close-on-exec descriptors and puts the null device and stderr in their place, so that a print,
a C library or a child process can neither break the protocol nor eat its input. Bytes, not text: the locale of the
host plays no part.
"""

from __future__ import annotations

import errno
import os
import select
import threading
from collections.abc import Iterator

from mcp_protocol.connection import Outlet

READ_BYTES = 1 << 16


class ReaderGone(Exception):
    """Nobody reads stdout any more."""


class LineTooLong:
    """Stands for a line that was longer than the limit, or than the memory there was, and has been skipped."""

    def __init__(self, no_memory: bool = False) -> None:
        self.no_memory = no_memory


class Wire(Outlet):
    """The two ends of the conversation with the host."""

    def __init__(self, in_fd: int, out_fd: int) -> None:
        self.in_fd = in_fd
        self.out_fd = out_fd
        self._write_lock = threading.Lock()

    def write(self, line: bytes) -> None:
        """Writes one whole line, whichever thread asks; other lines never come between.

        Raises: `ReaderGone` when the other side has closed its end.
        """
        view = memoryview(line)
        with self._write_lock:
            while view:
                try:
                    view = view[os.write(self.out_fd, view) :]
                except BlockingIOError:  # a host may have made its end, and so ours, non-blocking
                    _wait_for(self.out_fd, select.POLLOUT)
                except OSError as error:
                    raise ReaderGone from error

    def read(self) -> bytes | None:
        """Reads what is there: some bytes, none at the end of input, None if there is nothing yet."""
        try:
            return os.read(self.in_fd, READ_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            if error.errno == errno.EIO:  # a terminal that went away
                return b""
            raise


def guard() -> Wire:
    """Takes stdin and stdout away from everything else in the process; the first thing a server does."""
    for fd in (0, 1, 2):
        _open_if_closed(fd)
    wire = Wire(os.dup(0), os.dup(1))
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return wire


def _open_if_closed(fd: int) -> None:
    """Gives a standard descriptor that the host left closed to the null device, so that no other file gets its
    number."""
    try:
        os.fstat(fd)
    except OSError:
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes this number: all below it are open


class LineSplitter:
    """Cuts a stream of bytes into lines without ever holding more than `max_bytes` and one read."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._line = bytearray()
        self._skipping = False
        self._no_memory = False

    def feed(self, data: bytes) -> Iterator[bytes | LineTooLong]:
        """Yields the lines that `data` completes, without line ends; blank ones are passed over."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            yield from self._end_line(data[start:end])
            start = end + 1
        self._add(data[start:])

    def finish(self) -> Iterator[bytes | LineTooLong]:
        """Yields the last line when the input ended without a newline."""
        yield from self._end_line(b"")

    def _end_line(self, rest: bytes) -> Iterator[bytes | LineTooLong]:
        self._add(rest)
        line = self._taken()
        skipped, no_memory = self._skipping, self._no_memory
        self._line, self._skipping, self._no_memory = bytearray(), False, False
        if skipped:
            yield LineTooLong(no_memory)
        elif line:
            yield line

    def _taken(self) -> bytes:
        try:
            return bytes(self._line.strip())
        except MemoryError:
            self._skip(no_memory=True)
            return b""

    def _add(self, part: bytes) -> None:
        if self._skipping:
            return
        try:
            self._line += part
        except MemoryError:
            self._skip(no_memory=True)
        if len(self._line) > self._max_bytes:
            self._skip()

    def _skip(self, no_memory: bool = False) -> None:
        self._line, self._skipping, self._no_memory = bytearray(), True, no_memory


def _wait_for(fd: int, event: int) -> None:
    poll = select.poll()
    poll.register(fd, event)
    poll.poll()
