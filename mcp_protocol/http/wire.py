"""One connection: uvicorn speaks HTTP on it, within bounds of bytes and seconds that hold before anybody is known.

uvicorn's own protocol takes headers without end and waits for them without end. It loses the body of a request that
offers an upgrade (as Java's client does with every first request, for HTTP/2); here an offer is passed over.
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
"""The longest address and headers of a request together; also trailers and extensions of chunks, which nobody reads."""
MAX_HEADERS = 256
HEAD_S = 10.0
"""Seconds for address and headers, from the connection or the first byte of a further request on."""
NEWCOMER_S = 30.0
"""Seconds that a connection may stay without a token, whatever it asks for."""
LINGER_S = 5.0
"""Seconds for the rest of a request that was answered before its end: a client that still sends reads no answer."""
MAX_LINGER_BYTES = 1 << 20
"""Bytes that are passed over after a refusal, so that the client comes to read it."""
MAX_PIPELINED = 16
"""Requests that may wait behind the one that is being answered on the same connection."""

CONNECTION = "connection"
"""Where a request's scope has its connection, among `state`."""

_TOO_LONG = (
    431,
    f"The address and headers of a request may have {MAX_HEAD_BYTES >> 10} KiB and {MAX_HEADERS} headers.",
)
_REASONS = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large"}


class HttpConnection(HttpToolsProtocol):
    """A connection from its begin to its end. `admission` counts it; the rest is what uvicorn gives its protocols."""

    def __init__(self, admission: Admission, **given: Any) -> None:
        super().__init__(**given)
        self._admission = admission
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._answered: RequestResponseCycle | None = None
        self._problem = (400, "This is not HTTP/1.1.")
        self._is_refused = False
        self._is_offer = False
        self._begins_request = True
        self._n_loose = 0
        self._n_head = 0

    # What asyncio tells

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to count the connection."""
        super().connection_made(transport)
        self._after("newcomer", NEWCOMER_S, self.abort)
        self._after("head", HEAD_S, self._head_is_late)
        self._admission.arrived(self, self.client[0] if self.client else "")

    def connection_lost(self, exc: Exception | None) -> None:
        """Tells whoever answers, also where further requests wait behind that answer."""
        self._admission.left(self)
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._break_off()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Reads on, unless the client has been told that it is of no use."""
        if self._is_refused:
            self._n_loose += len(data)
            if self._n_loose > MAX_LINGER_BYTES:
                self.abort()
            return
        self._unset_keepalive_if_required()
        self._n_loose += len(data)
        if self._begins_request and "head" not in self._timers:
            self._after("head", HEAD_S, self._head_is_late)
        self._feed(data)
        if self._n_loose > MAX_HEAD_BYTES and not self._is_refused:
            self._refuse(*_TOO_LONG)

    # What the parser tells

    def on_message_begin(self) -> None:
        """Begins a request."""
        super().on_message_begin()
        self._unset_keepalive_if_required()
        self.scope["state"][CONNECTION] = self
        self._begins_request = False
        self._n_head = 0
        if "head" not in self._timers:
            self._after("head", HEAD_S, self._head_is_late)

    def on_url(self, url: bytes) -> None:
        """Adds to the address."""
        self._add_to_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Adds a header, or a trailer."""
        self._add_to_head(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Begins to answer."""
        if self.parser.should_upgrade():
            self._is_offer = True
            return
        if len(self.pipeline) >= MAX_PIPELINED:
            self._problem = (400, "Too many requests at once: wait for answers before sending more.")
            raise ValueError(self._problem)
        self._stop("head")
        self._n_loose = 0
        n_waiting = len(self.pipeline)
        super().on_headers_complete()
        if len(self.pipeline) == n_waiting:
            self._answered = self.cycle

    def on_body(self, body: bytes) -> None:
        """Adds to the body."""
        self._n_loose = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Ends a request, if not the answer to it."""
        if self._is_offer:
            return
        self._n_loose = 0
        self._begins_request = True
        self._stop("linger")
        super().on_message_complete()
        if self.cycle.response_complete:
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    # What the answers tell

    def on_response_complete(self) -> None:
        """Goes on to the next request, for which there is time only while the one before it is complete."""
        if self.pipeline:
            self._answered = self.pipeline[-1][0]
        super().on_response_complete()
        if self.cycle.response_complete and self.cycle.more_body and not self.transport.is_closing():
            self._after("linger", LINGER_S, self.transport.close)

    def belongs_to(self, owner: int) -> bool:
        """Takes note of whose requests come by this connection; False where that owner has too many."""
        if not self._admission.is_known(self, owner):
            return False
        self._stop("newcomer")
        return True

    def abort(self) -> None:
        """Ends the connection at once."""
        self.transport.abort()

    # Within

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._pass_over_offer(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(*self._problem)

    def _pass_over_offer(self, rest: bytes) -> None:
        """Reads a request again without its offer, since the parser takes what follows for another protocol."""
        self._is_offer = False
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":
            self._refuse(400, "This is no proxy.")
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
        if self._answered is not None and not self._answered.response_complete:
            self._answered.keep_alive = False  # the answer before it goes on, and is the last
            self._is_refused = True
        elif self._n_loose:
            self._refuse(408, f"The headers of the request did not come in {HEAD_S:g} s.")
        else:
            self.transport.close()

    def _refuse(self, status: int, text: str) -> None:
        """Answers what is no request that could be answered otherwise, and listens no longer."""
        self._is_refused = True
        self._stop("head")
        if self._answered is not None and self._answered.response_started and not self._answered.response_complete:
            self.abort()
            return
        self._break_off()
        body = jsonrpc.encode(jsonrpc.error_message(ProtocolError(jsonrpc.INVALID_REQUEST, text)))
        head = b"HTTP/1.1 %d %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(head % (status, _REASONS[status], len(body)) + body)
        self.transport.write_eof()
        self._after("linger", LINGER_S, self.abort)

    def _break_off(self) -> None:
        """Tells what is being answered that nobody waits for it, and drops what waits behind it."""
        self.pipeline.clear()
        for cycle in (self._answered, self.cycle):
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
