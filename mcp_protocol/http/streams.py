"""Messages from any thread to an HTTP response, and responses as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from starlette.types import Receive, Send

from mcp_protocol.connection import MessageWriter
from mcp_protocol.jsonrpc import ProtocolError
from sandbox.budget import ByteBudget, OverBudget

KEEPALIVE_S = 15.0
"""Interval of keep-alive comments; proxies close silent streams after 30 s or more."""
MAX_WAITING = 1_000
"""Messages that may wait for a slow client; further notifications are dropped."""
MAX_WAITING_BYTES = 64 << 20
"""Bytes that may wait for a slow client; a response beyond them ends the stream."""
MAX_BACKLOG = 100
"""Messages that a session keeps while its client has no stream open."""

_EVENT_HEADERS = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",  # otherwise nginx buffers the events
}
_PING = b": ping\n\n"


def event(line: bytes, name: bytes = b"message") -> bytes:
    """One line as a server-sent event."""
    return b"event: " + name + b"\ndata: " + line.rstrip(b"\n") + b"\n\n"


class Stream(MessageWriter):
    """The messages of one HTTP response. One reader awaits `next` on the event loop, where the stream was created.

    All lines but the first count in `budget`, so that a client that reads gets its responses even when other clients
    have used the budget up.
    """

    def __init__(self, budget: ByteBudget | None = None) -> None:
        self._holding = None if budget is None else budget.hold()
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()
        self._lock = threading.Lock()
        self._lines: deque[bytes] = deque()
        self._n_bytes = 0
        self._closed = False

    def write(self, line: bytes) -> None:
        """Adds a notification, unless too many lines wait."""
        with self._lock:
            if self._closed or len(self._lines) >= MAX_WAITING:
                return
            with contextlib.suppress(OverBudget):
                self._add(line)
        self._notify()

    def respond(self, line: bytes) -> None:
        """Adds a response."""
        with self._lock:
            is_over_limit = False
            try:
                if not self._closed:
                    self._add(line)
                    is_over_limit = self._n_bytes > MAX_WAITING_BYTES
            except OverBudget:
                is_over_limit = True
        if is_over_limit:
            self.drop()
        self._notify()

    def close(self) -> None:
        """Accepts no more lines; waiting lines are still sent."""
        with self._lock:
            self._closed = True
        self._notify()

    def drop(self) -> None:
        """Accepts no more lines and drops the waiting ones."""
        with self._lock:
            self._closed = True
            self._taken()
            if self._holding is not None:
                self._holding.release()
        self._notify()

    async def next(self, timeout_s: float | None) -> bytes | None:
        """The next line; None after `timeout_s`, or at the end (see `ended`)."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._wait(lambda: bool(self._lines) or self._closed)
        with self._lock:
            if not self._lines:
                return None
            line = self._lines.popleft()
            self._n_bytes -= len(line)
            if self._holding is not None and self._lines:
                self._holding.give_back(len(self._lines[0]))
            return line

    @property
    def ended(self) -> bool:
        """Whether the stream is closed and all lines are read."""
        with self._lock:
            return self._closed and not self._lines

    def _add(self, line: bytes) -> None:
        if self._holding is not None and self._lines:
            self._holding.add(len(line))
        self._lines.append(line)
        self._n_bytes += len(line)

    def _taken(self) -> list[bytes]:
        lines, self._n_bytes = list(self._lines), 0
        self._lines.clear()
        return lines

    async def _wait(self, happened: Callable[[], bool]) -> None:
        while True:
            self._changed.clear()
            with self._lock:
                if happened():
                    return
            await self._changed.wait()

    def _notify(self) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(self._changed.set)


class Reply(Stream):
    """The messages of the response to one POST; it ends when it has all expected responses.

    Arguments:
        as_json: the client accepts JSON.
        as_events: the client accepts an event stream, which notifications need.
        on_error: called with the code of each JSON-RPC error.
    """

    def __init__(self, as_json: bool, as_events: bool, on_error: Callable[[int], None]) -> None:
        super().__init__()
        self._as_json = as_json
        self._as_events = as_events
        self._on_error = on_error
        self.error: ProtocolError | None = None
        """The JSON-RPC error of the response, if any."""
        self._n_expected: int | None = None
        self._n_responses = 0
        self._n_cancelled = 0
        self._must_stream = False

    @property
    def takes_requests(self) -> bool:  # type: ignore[override]
        """Whether the client accepts an event stream."""
        return self._as_events

    def write(self, line: bytes) -> None:
        """Adds a notification, or a request of the server."""
        if self._as_events:
            self._must_stream = True
            super().write(line)

    def respond(self, line: bytes) -> None:
        """Adds a response, which may be the last."""
        super().respond(line)
        with self._lock:
            self._n_responses += 1
            self._close_if_complete()
        self._notify()

    def send_error(self, error: ProtocolError) -> None:
        """Adds an error response; the error determines the HTTP status."""
        self.error = error
        self._on_error(error.code)
        super().send_error(error)

    def skip_response(self) -> None:
        """Counts a cancelled request."""
        with self._lock:
            self._n_cancelled += 1
            self._close_if_complete()
        self._notify()

    def expect(self, n_responses: int) -> None:
        """Sets the number of responses to wait for."""
        with self._lock:
            self._n_expected = n_responses
            self._close_if_complete()

    def _close_if_complete(self) -> None:
        if self._n_expected is not None and self._n_responses + self._n_cancelled >= self._n_expected:
            self._closed = True

    async def responses(self) -> list[bytes] | None:
        """All responses, if they can be sent as JSON; None if a stream is needed."""
        if self._as_events:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KEEPALIVE_S):
                    await self._wait(lambda: self._closed or self._must_stream)
        else:
            await self._wait(lambda: self._closed)
        with self._lock:
            single = self._closed and self._n_responses == 1 and not (self._must_stream or self._n_cancelled)
            if self._as_events and not (single and (self._as_json or self.error is not None)):
                return None
            return self._taken()


class EventResponse:
    """A response that sends the lines of a stream as events.

    Arguments:
        stream: the lines.
        gone: called when the client disconnects before the end.
        first: sent at once.
        headers: more headers.
    """

    def __init__(
        self, stream: Stream, gone: Callable[[], None], first: bytes = b"", headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        self._stream = stream
        self._gone = gone
        self._first = first
        self._headers = [*_EVENT_HEADERS.items(), *headers]

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Sends the response (the ASGI interface)."""
        watcher = asyncio.create_task(watch(receive, self._stream, self._gone))
        try:
            await self.send(send)
        finally:
            watcher.cancel()
            self._stream.drop()

    async def send(self, send: Send) -> None:
        """Sends the headers, the events and the end."""
        headers = [(name.encode(), value.encode()) for name, value in self._headers]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        body = self._first
        while not self._stream.ended:
            if body:
                await send({"type": "http.response.body", "body": body, "more_body": True})
            line = await self._stream.next(KEEPALIVE_S)
            body = _PING if line is None else event(line)
            if line is None and self._stream.ended:
                body = b""
        await send({"type": "http.response.body", "body": body, "more_body": False})


async def watch(receive: Receive, stream: Stream, gone: Callable[[], None]) -> None:
    """Waits until the client disconnects; then calls `gone` and drops the stream."""
    while (await receive())["type"] != "http.disconnect":
        pass
    gone()
    stream.drop()
