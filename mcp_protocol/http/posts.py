"""POST requests: their checks, and their responses as JSON or as an event stream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Send

from mcp_protocol import jsonrpc
from mcp_protocol.http.envelope import HEADER_MISMATCH
from mcp_protocol.http.streams import EventResponse, Reply, watch
from mcp_protocol.jsonrpc import ProtocolError
from mcp_protocol.versions import MISSING_CAPABILITY, UNSUPPORTED_VERSION
from sandbox.budget import ByteBudget, OverBudget

BODY_S = 60.0
"""Time limit for the body of a request, because an unfinished body takes memory."""

STATUS_MODERN = {
    jsonrpc.PARSE_ERROR: 400,
    jsonrpc.INVALID_REQUEST: 400,
    jsonrpc.INVALID_PARAMS: 400,
    jsonrpc.METHOD_NOT_FOUND: 404,
    HEADER_MISMATCH: 400,
    MISSING_CAPABILITY: 400,
    UNSUPPORTED_VERSION: 400,
}
"""HTTP status by JSON-RPC error code for modern requests; 200 for other codes."""
STATUS_LEGACY = {jsonrpc.PARSE_ERROR: 400, jsonrpc.INVALID_REQUEST: 400}


class Accepted(msgspec.Struct, frozen=True):
    """The content types that the client accepts."""

    json: bool
    events: bool


def accepted(request: Request) -> Accepted:
    """What the `Accept` header allows; everything if it is missing.

    Raises: `HTTPException` if the client accepts neither JSON nor events.
    """
    values = ",".join(request.headers.getlist("accept")) or "*/*"
    kinds = {value.partition(";")[0].strip().casefold() for value in values.split(",")}
    found = Accepted(
        bool(kinds & {"*/*", "application/*", "application/json"}), bool(kinds & {"*/*", "text/*", "text/event-stream"})
    )
    if not found.json and not found.events:
        raise HTTPException(406, "The Accept header allows neither application/json nor text/event-stream.")
    return found


async def body_of(request: Request, max_bytes: int, budget: ByteBudget) -> bytes:
    """Reads the body, checking its content type and size; received bytes count in `budget`.

    Raises: `HTTPException`; `ClientDisconnect`.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().casefold() != "application/json":
        raise HTTPException(415, "The body must be JSON: send the header 'Content-Type: application/json'.")
    too_long = HTTPException(413, f"The body is longer than {max_bytes} bytes.")
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
                raise HTTPException(413, str(over)) from None
            raise HTTPException(503, str(over), {"Retry-After": "5"}) from None
        except TimeoutError:
            raise HTTPException(408, f"The body did not arrive within {BODY_S:g} s.") from None
    return bytes(body)


def refusal(error: HTTPException) -> Response:
    """An HTTP error with a JSON-RPC error as its body, which MCP clients show."""
    return error_response(
        ProtocolError(jsonrpc.INVALID_REQUEST, error.detail), error.status_code, dict(error.headers or {})
    )


def error_response(error: ProtocolError, status: int, headers: dict[str, str] | None = None) -> Response:
    """A JSON-RPC error with an HTTP status."""
    return Response(jsonrpc.encode(jsonrpc.error_message(error)), status, headers, "application/json")


class PostResponse:
    """The response to a POST.

    Arguments:
        reply: the messages to send.
        modern: whether the request uses a modern revision.
        gone: called when the client disconnects before the end.
        headers: more headers.
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
        """Sends the response (the ASGI interface)."""
        watcher = asyncio.create_task(watch(receive, self._reply, self._gone))
        try:
            with contextlib.suppress(ClientDisconnect):
                await self._respond(scope, receive, send)
        finally:
            watcher.cancel()

    async def _respond(self, scope: Any, receive: Receive, send: Send) -> None:
        lines = await self._reply.responses()
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
