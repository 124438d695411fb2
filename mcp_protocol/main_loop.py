"""The main thread: reads stdin, watches stdout, keeps the deadlines, and ends the process in good order.

It owns stdin, where there is a wire, and the signals. Every way out ends in `os._exit`: the interpreter's own end would
wait for threads and for libraries that the worker may be in the middle of loading.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from mcp_protocol import exit_limit, log
from mcp_protocol.connection import NOWHERE, Connection
from mcp_protocol.server import Server
from mcp_protocol.stdio import LineSplitter, ReaderGone, Wire

STOP_WORK_S = 0.8
"""What a running call gets to end after a signal; clients kill a server 2 s after it."""

GREETING = (
    b"This is an MCP server. It waits for messages of a client, such as Claude or an IDE, which starts it by itself; "
    b"to stop it press Ctrl-C or Ctrl-D. --help lists its options, --check tells what works.\n"
)
"""For somebody who started it on a terminal."""

_BROKEN = select.POLLERR | select.POLLHUP | select.POLLNVAL


class MainLoop:
    """Runs a server on its wire until the input ends, nobody reads any more, or a signal comes.

    Without a wire the messages come by another way, and only a signal ends it. When a byte lies in `ending_fd`, a pipe,
    the process is to end, also where this thread has not got Python's lock yet to see it.
    """

    def __init__(self, wire: Wire | None = None, max_line_bytes: int = 64 << 20) -> None:
        self._wire = wire
        self._connection = Connection(NOWHERE if wire is None else wire)
        self._splitter = LineSplitter(max_line_bytes)
        self._stop_requested = False
        self._input_ended = False
        self._is_armed = False
        self._wake_read_fd, self._wake_write_fd = os.pipe()
        self.ending_fd, self._signals_fd = os.pipe()
        for fd in (self._wake_read_fd, self._wake_write_fd, self.ending_fd, self._signals_fd):
            os.set_blocking(fd, False)

    def wake(self) -> None:
        """Makes the main thread look again; called by the worker."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write_fd, b"\0")

    def work_done(self) -> None:
        """Lets the main thread see whether all work is done, which it only wants to know after the end of input."""
        if self._input_ended:
            self.wake()

    def run(self, server: Server, close: Callable[[], None]) -> NoReturn:
        """Serves until the end and leaves the process with status 0, or 1 where a defect of ours was the end.

        `close` ends the engine and its children.
        """
        status = 0
        self._watch_signals()
        self._greet()
        try:
            self._serve(server)
            if self._stop_requested:
                for call in server.queue.stop(STOP_WORK_S):
                    server.fail(call, "The server is shutting down; this call was not finished.", "stopped")
            server.end_subscriptions()
        except ReaderGone:
            log.log("INFO", "nobody reads stdout any more")
        except BaseException:  # SystemExit too, which would wait for all threads
            log.log_failure("the main loop")
            status = 1
        self._arm(status)
        log.log("INFO", "shutting down")
        try:
            close()
        except BaseException:
            log.log_failure("closing the engine")
        log.flush(0.2)
        os._exit(status)

    def _greet(self) -> None:
        """Tells whoever sits at a terminal what waits there."""
        if self._wire is not None and os.isatty(self._wire.in_fd):
            with contextlib.suppress(OSError):
                os.write(2, GREETING)

    def _serve(self, server: Server) -> None:
        poll = select.poll()
        poll.register(self._wake_read_fd, select.POLLIN)
        poll.register(self.ending_fd, select.POLLIN)
        if self._wire is not None:
            poll.register(self._wire.in_fd, select.POLLIN)
            poll.register(self._wire.out_fd, 0)
        while not self._stop_requested and not (self._input_ended and server.queue.drained):
            for fd, event in poll.poll(_poll_ms(server.queue.next_deadline_s())):
                if fd in (self._wake_read_fd, self.ending_fd):
                    os.read(fd, 4096)
                elif self._wire is not None and fd == self._wire.out_fd and event & _BROKEN:
                    raise ReaderGone
                elif self._wire is not None and fd == self._wire.in_fd:
                    self._read(self._wire, server)
                    if self._input_ended:
                        poll.unregister(fd)
            for call, text in server.queue.overdue():
                server.fail(call, text, "timeout")

    def _read(self, wire: Wire, server: Server) -> None:
        data = wire.read()
        if data is None:
            return
        lines = self._splitter.feed(data) if data else self._splitter.finish()
        for line in lines:
            server.receive(line, self._connection)
            if self._stop_requested:
                return
        self._input_ended = not data

    def _watch_signals(self) -> None:
        signal.set_wakeup_fd(self._signals_fd, warn_on_full_buffer=False)
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        for number in numbers:
            signal.signal(number, self._on_signal)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)  # a host's thread may have blocked them for its children

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._stop_requested:
            os._exit(0)
        self._stop_requested = True
        self._arm(0)

    def _arm(self, status: int) -> None:
        """Begins the time that the rest of the end may take, once."""
        if not self._is_armed:
            self._is_armed = True
            exit_limit.arm(status)
            with contextlib.suppress(BlockingIOError):
                os.write(self._signals_fd, b"\0")


def _poll_ms(deadline_s: float | None) -> float | None:
    return None if deadline_s is None else max(0.0, (deadline_s - time.monotonic()) * 1000 + 1)
