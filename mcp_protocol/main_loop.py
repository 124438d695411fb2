"""The main thread: reads stdin, watches stdout, handles signals and deadlines, and ends the process.

The process always ends with `os._exit`: the interpreter's own exit would wait for threads, and for libraries that a
worker may be loading.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from mcp_protocol import exit_limit, log, stdio
from mcp_protocol.connection import NULL_WRITER, Connection
from mcp_protocol.server import Server
from mcp_protocol.stdio import LineSplitter, ReaderGone, StdioTransport
from operating_system import signals
from operating_system.waiter import INPUT, READER_GONE
from operating_system.waiting import waiting

STOP_WORK_S = 0.8
"""Time for running calls to return after a signal; clients kill a server 2 s after it."""

GREETING = (
    b"This is an MCP server. It waits for messages of an MCP client, such as Claude or an IDE, which normally "
    b"starts it. Stop it with Ctrl-C or Ctrl-D. --help lists its options, --check reports what works.\n"
)
"""For users who start the server in a terminal."""


class MainLoop:
    """Runs a server until stdin ends, the client closes stdout, or a signal comes.

    `ending_fd` is a pipe that becomes readable when a signal comes, even while another thread holds the GIL; -1 on
    Windows.

    Arguments:
        transport: stdin and stdout; None for HTTP, where only a signal ends the loop.
    """

    def __init__(self, transport: StdioTransport | None = None) -> None:
        self._transport = transport
        self._connection = Connection(NULL_WRITER if transport is None else transport)
        self._splitter = LineSplitter(stdio.MAX_LINE_BYTES)
        self._stop_requested = False
        self._input_ended = False
        self._is_armed = False
        self._waiting = waiting() if transport is None else waiting(transport.in_fd, transport.out_fd)
        self.ending_fd = self._waiting.ending_fd
        self.wake = self._waiting.wake
        """Makes the main thread check deadlines and stdout again; any thread may call it."""

    def item_ended(self) -> None:
        """Wakes the main thread after the end of input: the item may have been the last."""
        if self._input_ended:
            self.wake()

    def run(self, server: Server, close: Callable[[], None]) -> NoReturn:
        """Serves, then ends the process with status 0, or 1 after an internal error.

        Arguments:
            server: handles the messages.
            close: stops the engine and its child processes.
        """
        status = 0
        signals.on_stop(self._on_signal, self._waiting.signals_fd)
        self._greet()
        try:
            self._serve(server)
            if self._stop_requested:
                for call in server.queue.stop(STOP_WORK_S):
                    server.fail(call, "The server is shutting down. This call was not finished.", "stopped")
            server.end_subscriptions()
        except ReaderGone:
            log.log("INFO", "the client has closed stdout")
        except BaseException:  # SystemExit too, which would wait for all threads
            log.log_failure("the main loop")
            status = 1
        self._arm(status)
        log.log("INFO", "shutting down")
        try:
            close()
        except BaseException:
            log.log_failure("closing the services")
        log.flush(0.2)
        os._exit(status)

    def _greet(self) -> None:
        """Explains the server to a user who started it in a terminal."""
        if self._transport is not None and os.isatty(self._transport.in_fd):
            with contextlib.suppress(OSError):
                os.write(2, GREETING)

    def _serve(self, server: Server) -> None:
        while not self._stop_requested and not (self._input_ended and server.drained):
            events = self._waiting.wait(_seconds_until(server.queue.next_deadline_s()))
            if events & READER_GONE:
                raise ReaderGone
            if events & INPUT:
                self._read(server)
            for call, text in server.queue.overdue():
                server.fail(call, text, "timeout")

    def _read(self, server: Server) -> None:
        data = self._waiting.read()
        if data is None:
            return
        lines = self._splitter.feed(data) if data else self._splitter.finish()
        for line in lines:
            server.receive(line, self._connection)
            if self._stop_requested:
                return
        self._input_ended = not data
        if self._input_ended:
            server.end_questions(self._connection)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._stop_requested:
            os._exit(0)
        self._stop_requested = True
        self._arm(0)

    def _arm(self, status: int) -> None:
        """Starts the time limit of the shutdown, once."""
        if not self._is_armed:
            self._is_armed = True
            exit_limit.arm(status)
            self._waiting.announce_end()


def _seconds_until(deadline_s: float | None) -> float | None:
    return None if deadline_s is None else deadline_s - time.monotonic()
