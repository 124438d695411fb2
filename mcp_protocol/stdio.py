"""The stdio transport: stdin and stdout, which nothing else in the process can use.

`redirect_standard_streams` moves both to close-on-exec descriptors and puts the null device and stderr in their place,
so that a print, a C library or a child process can neither write to the protocol's output nor read its input. Lines
are bytes: the locale does not matter.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

from mcp_protocol.connection import MessageWriter
from operating_system.files import use_binary_mode
from operating_system.waiting import STEP_S, write_some


class ReaderGone(Exception):
    """The client has closed stdout."""


class LineTooLong:
    """Stands for a line that was skipped because it exceeded the limit or the available memory."""

    def __init__(self, no_memory: bool = False) -> None:
        self.no_memory = no_memory


class StdioTransport(MessageWriter):
    """The descriptors to read from and write to the client."""

    def __init__(self, in_fd: int, out_fd: int) -> None:
        self.in_fd = in_fd
        self.out_fd = out_fd
        self._write_lock = threading.Lock()

    def write(self, line: bytes) -> None:
        """Writes one whole line; lines of several threads are never mixed.

        Raises: `ReaderGone` when the client has closed stdout.
        """
        view = memoryview(line)
        is_main = threading.current_thread() is threading.main_thread()
        while not self._write_lock.acquire(timeout=STEP_S):  # see `write_some`
            continue
        try:
            while view:
                view = view[write_some(self.out_fd, view, signals_wait=is_main) :]
        except OSError as error:
            raise ReaderGone from error
        finally:
            self._write_lock.release()


def redirect_standard_streams() -> StdioTransport:
    """Reserves stdin and stdout for the transport; must run before anything else can write to stdout."""
    for fd in (0, 1, 2):
        _open_if_closed(fd)
    transport = StdioTransport(os.dup(0), os.dup(1))
    for fd in (transport.in_fd, transport.out_fd):
        use_binary_mode(fd)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return transport


def _open_if_closed(fd: int) -> None:
    """Opens the null device as a standard descriptor that the client left closed, so that no other file gets it."""
    try:
        os.fstat(fd)
    except OSError:
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets this number, because all lower ones are open


MAX_LINE_BYTES = 64 << 20
"""Longest message: a line of stdin, or the body of an HTTP request."""


class LineSplitter:
    """Splits a byte stream into lines, keeping at most `max_bytes` and one read in memory."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._line = bytearray()
        self._skipping = False
        self._no_memory = False

    def feed(self, data: bytes) -> Iterator[bytes | LineTooLong]:
        """Yields the lines that `data` completes, without line ends; blank lines are skipped."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            yield from self._end_line(data[start:end])
            start = end + 1
        self._add(data[start:])

    def finish(self) -> Iterator[bytes | LineTooLong]:
        """Yields the last line if the input ended without a newline."""
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
