"""One message by POST: what has to be right about it, and its answer as JSON or as a stream of events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from mcp_protocol import jsonrpc
from mcp_protocol.http.envelope import HEADER_MISMATCH
from mcp_protocol.http.guard import Refused
from mcp_protocol.http.streams import EventResponse, Receive, Reply, Send, watch
from mcp_protocol.jsonrpc import ProtocolError
from mcp_protocol.versions import UNSUPPORTED_VERSION
from sandbox.budget import ByteBudget, OverBudget

BODY_S = 60.0
"""Seconds for a request's body; whoever sends more slowly holds memory for nothing."""

MISSING_CAPABILITY = -32021
STATUS_MODERN = {
    jsonrpc.PARSE_ERROR: 400,
    jsonrpc.INVALID_REQUEST: 400,
    jsonrpc.INVALID_PARAMS: 400,
    jsonrpc.METHOD_NOT_FOUND: 404,
    HEADER_MISMATCH: 400,
    MISSING_CAPABILITY: 400,
    UNSUPPORTED_VERSION: 400,
}
"""The status that a modern answer has by the code of its error; others, and results, have 200."""
STATUS_LEGACY = {jsonrpc.PARSE_ERROR: 400, jsonrpc.INVALID_REQUEST: 400}


class Accepted(msgspec.Struct, frozen=True):
    """What the client takes for an answer."""

    json: bool
    events: bool


def accepted(request: Request) -> Accepted:
    """What the `Accept` header allows; all where there is none.

    Raises: `Refused` when neither JSON nor events may be answered.
    """
    values = ",".join(request.headers.getlist("accept")) or "*/*"
    kinds = {value.partition(";")[0].strip().casefold() for value in values.split(",")}
    found = Accepted(
        bool(kinds & {"*/*", "application/*", "application/json"}), bool(kinds & {"*/*", "text/*", "text/event-stream"})
    )
    if not found.json and not found.events:
        raise Refused(406, "The answer is application/json or text/event-stream; the Accept header allows neither.")
    return found


async def body_of(request: Request, max_bytes: int, budget: ByteBudget) -> bytes:
    """The body, as long as it is JSON by its type and not too long; what has come of it counts in the budget.

    Raises: `Refused`; `ClientDisconnect`.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().casefold() != "application/json":
        raise Refused(415, "The body must be JSON: send the header 'Content-Type: application/json'.")
    too_long = Refused(413, f"The body is longer than {max_bytes} bytes (VLLM_MAX_LINE_BYTES).")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and (len(declared) > 18 or int(declared) > max_bytes):
        raise too_long
    body = bytearray()
    with budget.hold() as holding:
        try:
            async with asyncio.timeout(BODY_S):
                async for part in request.stream():
                    holding.add(len(part))
                    body += part
                    if len(body) > max_bytes:
                        raise too_long
        except OverBudget as over:
            if len(body) + len(part) > budget.max_bytes:
                raise Refused(413, str(over)) from None
            raise Refused(503, str(over), {"Retry-After": "5"}) from None
        except TimeoutError:
            raise Refused(408, f"The body did not come in {BODY_S:g} s.") from None
    return bytes(body)


def refusal(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    """What HTTP itself refuses, in the shape of an answer of the protocol, which clients show."""
    return error_response(ProtocolError(jsonrpc.INVALID_REQUEST, text), status, headers)


def error_response(error: ProtocolError, status: int, headers: dict[str, str] | None = None) -> Response:
    """An error of the protocol with a status of HTTP."""
    return Response(jsonrpc.encode(jsonrpc.error_message(error)), status, headers, "application/json")


class PostResponse:
    """Answers a POST with what comes out of its reply.

    `gone` is called when the client leaves before the end.
    """

    def __init__(
        self,
        reply: Reply,
        *,
        modern: bool,
        gone: Callable[[], None] = lambda: None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self._reply = reply
        self._status_by_code = STATUS_MODERN if modern else STATUS_LEGACY
        self._gone = gone
        self._headers = headers or {}

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answers as an ASGI application."""
        watcher = asyncio.create_task(watch(receive, self._reply, self._gone))
        try:
            with contextlib.suppress(ClientDisconnect):
                await self._respond(scope, receive, send)
        finally:
            watcher.cancel()

    async def _respond(self, scope: Any, receive: Receive, send: Send) -> None:
        lines = await self._reply.answers()
        if lines is None:
            await EventResponse(self._reply, self._gone, headers=self._headers.items()).send(send)
            return
        error = self._reply.error
        status = 200 if error is None else self._status_by_code.get(error.code, 200)
        if not lines:
            response = Response(None, 204, self._headers)
        else:
            body = lines[0] if len(lines) == 1 else b"[" + b",".join(lines) + b"]"
            response = Response(body, status, self._headers, "application/json")
        await response(scope, receive, send)
