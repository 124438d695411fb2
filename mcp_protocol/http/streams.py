"""Lines on their way from any thread to a response, and responses that stream them as server-sent events."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from mcp_protocol.connection import Outlet
from mcp_protocol.jsonrpc import ProtocolError
from sandbox.budget import ByteBudget, OverBudget

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

KEEPALIVE_S = 15.0
"""Seconds of silence after which a stream says that it is alive; proxies close silent ones after 30 s or more."""
MAX_WAITING = 1_000
"""Messages that wait for a client that reads slowly; notifications beyond them are dropped."""
MAX_WAITING_BYTES = 64 << 20
"""Answers that wait for a client that does not read; beyond them its stream ends."""
MAX_BACKLOG = 100
"""Messages of a session that wait for the client to open its stream for them."""

_EVENT_HEADERS = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",  # nginx would hold the events back
}
_PING = b": ping\n\n"


def event(line: bytes, name: bytes = b"message") -> bytes:
    """One line as a server-sent event."""
    return b"event: " + name + b"\ndata: " + line.rstrip(b"\n") + b"\n\n"


class Stream(Outlet):
    """Lines for one response; made on the event loop's thread, where `next` is awaited by one reader.

    All lines but the first count in `budget`: whoever reads gets his answers, however much waits for others.
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
        """Adds a notification, unless too many wait already."""
        with self._lock:
            if self._closed or len(self._lines) >= MAX_WAITING:
                return
            with contextlib.suppress(OverBudget):
                self._add(line)
        self._tell()

    def answer(self, line: bytes) -> None:
        """Adds an answer."""
        with self._lock:
            is_too_much = False
            try:
                if not self._closed:
                    self._add(line)
                    is_too_much = self._n_bytes > MAX_WAITING_BYTES
            except OverBudget:
                is_too_much = True
        if is_too_much:
            self.drop()
        self._tell()

    def close(self) -> None:
        """Takes nothing more; what waits is still to be sent."""
        with self._lock:
            self._closed = True
        self._tell()

    def drop(self) -> None:
        """Takes nothing more and forgets what waits: nobody reads it."""
        with self._lock:
            self._closed = True
            self._taken()
            if self._holding is not None:
                self._holding.release()
        self._tell()

    async def next(self, timeout_s: float | None) -> bytes | None:
        """The next line; None where none came in time, or none will come (see `ended`)."""
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
        """Whether nothing is left and nothing will come."""
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

    def _tell(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended with the server
            self._loop.call_soon_threadsafe(self._changed.set)


class Reply(Stream):
    """What answers one POST; it ends when all answers that it expects are there.

    Arguments: whether the client takes JSON, and whether a stream, which is what notifications need; `on_error` is told
    the code of each error of the protocol.
    """

    def __init__(self, as_json: bool, as_events: bool, on_error: Callable[[int], None]) -> None:
        super().__init__()
        self._as_json = as_json
        self._as_events = as_events
        self._on_error = on_error
        self.error: ProtocolError | None = None
        """The protocol's error that was answered with, if one was."""
        self._n_expected: int | None = None
        self._n_answered = 0
        self._n_cancelled = 0
        self._must_stream = False

    def write(self, line: bytes) -> None:
        """Adds a notification."""
        if self._as_events:
            self._must_stream = True
            super().write(line)

    def answer(self, line: bytes) -> None:
        """Adds an answer, which may be the last."""
        super().answer(line)
        with self._lock:
            self._n_answered += 1
            self._close_if_complete()
        self._tell()

    def refuse(self, error: ProtocolError) -> None:
        """Adds an answer and keeps the error, which decides the status of HTTP."""
        self.error = error
        self._on_error(error.code)
        super().refuse(error)

    def end(self) -> None:
        """Counts a request that was cancelled."""
        with self._lock:
            self._n_cancelled += 1
            self._close_if_complete()
        self._tell()

    def expect(self, n_answers: int) -> None:
        """Says how many answers there will be in all."""
        with self._lock:
            self._n_expected = n_answers
            self._close_if_complete()

    def _close_if_complete(self) -> None:
        if self._n_expected is not None and self._n_answered + self._n_cancelled >= self._n_expected:
            self._closed = True

    async def answers(self) -> list[bytes] | None:
        """All answers, where there is nothing to send before them; None where a stream has to begin."""
        if self._as_events:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(KEEPALIVE_S):
                    await self._wait(lambda: self._closed or self._must_stream)
        else:
            await self._wait(lambda: self._closed)
        with self._lock:
            single = self._closed and self._n_answered == 1 and not (self._must_stream or self._n_cancelled)
            if self._as_events and not (single and (self._as_json or self.error is not None)):
                return None
            return self._taken()


class EventResponse:
    """A response that streams lines as events until they end or the client goes.

    `first` is sent at once, `gone` called when the client went before the end.
    """

    def __init__(
        self, stream: Stream, gone: Callable[[], None], first: bytes = b"", headers: Iterable[tuple[str, str]] = ()
    ) -> None:
        self._stream = stream
        self._gone = gone
        self._first = first
        self._headers = [*_EVENT_HEADERS.items(), *headers]

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answers as an ASGI application."""
        watcher = asyncio.create_task(watch(receive, self._stream, self._gone))
        try:
            await self.send(send)
        finally:
            watcher.cancel()
            self._stream.drop()

    async def send(self, send: Send) -> None:
        """Sends head, events and end."""
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
    """Waits until the client goes; tells it and empties the stream."""
    while (await receive())["type"] != "http.disconnect":
        pass
    gone()
    stream.drop()
