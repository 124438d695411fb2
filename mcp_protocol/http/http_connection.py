"""One TCP connection: uvicorn's HTTP protocol with limits of bytes and seconds that hold before authentication.

uvicorn's httptools protocol limits neither the size of headers nor the time for them (`h11_max_incomplete_event_size`
limits the size, but only in the slower h11 protocol). It also loses the body of a request that offers an upgrade, as
Java's client does with its first request, for HTTP/2; here the offer is ignored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from mcp_protocol import jsonrpc
from mcp_protocol.http.admission import Admission
from mcp_protocol.jsonrpc import ProtocolError

MAX_HEAD_BYTES = 64 << 10
"""URL and headers of a request together; also trailers and chunk extensions, which are ignored."""
MAX_HEADERS = 256
HEAD_S = 10.0
"""Time limit for URL and headers, from the connection or from the first byte of a further request."""
UNAUTHENTICATED_S = 30.0
"""Time limit for an unauthenticated connection."""
LINGER_S = 5.0
"""Time for the rest of a request that got its response early: many clients send everything before they read."""
MAX_LINGER_BYTES = 1 << 20
"""Bytes that are ignored after an error response, so that the client gets to read it."""
MAX_PIPELINED = 16
"""Requests that may wait behind another one on the same connection."""

CONNECTION = "connection"
"""The key of the connection in `scope["state"]`."""

_TOO_LONG = (431, f"URL and headers of a request may have {MAX_HEAD_BYTES >> 10} KiB and {MAX_HEADERS} headers.")
_REASONS = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large"}


class HttpConnection(HttpToolsProtocol):
    """A connection that `admission` counts; `kwargs` are uvicorn's arguments for protocols."""

    def __init__(self, admission: Admission, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._admission = admission
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._active: RequestResponseCycle | None = None
        self._problem = (400, "This is not HTTP/1.1.")
        self._is_rejected = False
        self._offers_upgrade = False
        self._expects_request = True
        self._n_unparsed = 0
        self._n_head = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Counts the connection and starts its timers."""
        super().connection_made(transport)
        self._after("authentication", UNAUTHENTICATED_S, self.transport.abort)
        self._after("head", HEAD_S, self._head_is_late)
        self._admission.arrived(transport, self.client[0] if self.client else "")

    def connection_lost(self, exc: Exception | None) -> None:
        """Notifies the running request and drops those behind it."""
        self._admission.left(self.transport)
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._disconnect()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses data, unless the connection has got an error response."""
        if self._is_rejected:
            self._n_unparsed += len(data)
            if self._n_unparsed > MAX_LINGER_BYTES:
                self.transport.abort()
            return
        self._unset_keepalive_if_required()
        self._n_unparsed += len(data)
        if self._expects_request and "head" not in self._timers:
            self._after("head", HEAD_S, self._head_is_late)
        self._feed(data)
        if self._n_unparsed > MAX_HEAD_BYTES and not self._is_rejected:
            self._reject(*_TOO_LONG)

    def on_message_begin(self) -> None:
        """Starts a request."""
        super().on_message_begin()
        self._unset_keepalive_if_required()
        self.scope["state"][CONNECTION] = self
        self._expects_request = False
        self._n_head = 0
        if "head" not in self._timers:
            self._after("head", HEAD_S, self._head_is_late)

    def on_url(self, url: bytes) -> None:
        """Adds to the URL."""
        self._add_to_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Adds a header, or a trailer."""
        self._add_to_head(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Passes the request to the application."""
        if self.parser.should_upgrade():
            self._offers_upgrade = True
            return
        if len(self.pipeline) >= MAX_PIPELINED:
            self._problem = (400, "Too many requests at once. Wait for responses before sending more.")
            raise ValueError(self._problem)
        self._stop("head")
        self._n_unparsed = 0
        n_waiting = len(self.pipeline)
        super().on_headers_complete()
        if len(self.pipeline) == n_waiting:
            self._active = self.cycle

    def on_body(self, body: bytes) -> None:
        """Adds to the body."""
        self._n_unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Ends a request; its response may still follow."""
        if self._offers_upgrade:
            return
        self._n_unparsed = 0
        self._expects_request = True
        self._stop("linger")
        super().on_message_complete()
        if self.cycle.response_complete:
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def on_response_complete(self) -> None:
        """Starts the next request; an unfinished body of the previous one must end within `LINGER_S`."""
        if self.pipeline:
            self._active = self.pipeline[-1][0]
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body and not self.transport.is_closing():
            self._after("linger", LINGER_S, self.transport.close)

    def authenticate(self, owner: int) -> bool:
        """Authenticates the connection; False if the owner has too many connections."""
        if not self._admission.authenticate(self.transport, owner):
            return False
        self._stop("authentication")
        return True

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._reject(*self._problem)

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Parses the request again without its Upgrade header; the parser would treat the rest as another protocol."""
        self._offers_upgrade = False
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":
            self._reject(400, "This server is not a proxy.")
            return
        kept = [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        head = b"\r\n".join([method + b" " + self.url + b" HTTP/" + version, *kept, b"", b""])
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed(head + rest)

    def _add_to_head(self, n_bytes: int) -> None:
        self._n_head += n_bytes
        if self._n_head > MAX_HEAD_BYTES or len(self.headers) >= MAX_HEADERS:
            self._problem = _TOO_LONG
            raise ValueError(self._problem)

    def _head_is_late(self) -> None:
        self._timers.pop("head", None)
        if self._active is not None and not self._active.response_complete:
            self._active.keep_alive = False  # the running response is completed and is the last one
            self._is_rejected = True
        elif self._n_unparsed:
            self._reject(408, f"The headers of the request did not arrive within {HEAD_S:g} s.")
        else:
            self.transport.close()

    def _reject(self, status: int, text: str) -> None:
        """Sends an error response to data that is not a valid request, and reads no more."""
        self._is_rejected = True
        self._stop("head")
        if self._active is not None and self._active.response_started and not self._active.response_complete:
            self.transport.abort()
            return
        self._disconnect()
        body = jsonrpc.encode(jsonrpc.error_message(ProtocolError(jsonrpc.INVALID_REQUEST, text)))
        head = b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (status, _REASONS[status], len(body)) + body)
        self.transport.write_eof()
        self._after("linger", LINGER_S, self.transport.abort)

    def _disconnect(self) -> None:
        """Marks the running request as disconnected and drops those behind it."""
        self.pipeline.clear()
        for cycle in (self._active, self.cycle):
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()

    def _after(self, name: str, seconds: float, do: Callable[[], None]) -> None:
        self._stop(name)
        self._timers[name] = self.loop.call_later(seconds, do)

    def _stop(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()
