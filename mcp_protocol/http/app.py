"""The ASGI application: paths, access and sessions.

Routing and CORS do not use Starlette's classes. Its router decodes paths, so `/%6detrics` would pass a proxy that
blocks `/metrics`. Its `CORSMiddleware` lets requests from other origins reach the application.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Send

from mcp_protocol import jsonrpc, stdio, versions
from mcp_protocol.connection import Connection
from mcp_protocol.http import envelope, sessions
from mcp_protocol.http.access import AccessControl
from mcp_protocol.http.http_connection import CONNECTION
from mcp_protocol.http.metrics import CONTENT_TYPE, Metrics
from mcp_protocol.http.posts import Accepted, PostResponse, accepted, body_of, error_response, refusal
from mcp_protocol.http.sessions import Session, Sessions, TooManySessions
from mcp_protocol.http.streams import EventResponse, Reply, Stream, event
from mcp_protocol.jsonrpc import Message, Notification, ProtocolError
from mcp_protocol.log import log_failure
from mcp_protocol.server import Server
from settings.server import HttpSettings

SESSION_HEADER = "mcp-session-id"
METRICS, HEALTH, OTHER = "/metrics", "/health", "other"
_CORS = {
    "Vary": "Origin",
    "Access-Control-Allow-Methods": "GET, POST, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "Accept, Authorization, Content-Type, Last-Event-ID, Mcp-Method, Mcp-Name, "
    "Mcp-Protocol-Version, Mcp-Session-Id",
    "Access-Control-Expose-Headers": "Mcp-Session-Id, WWW-Authenticate",
    "Access-Control-Max-Age": "600",
}


class HttpApp:
    """Serves /mcp and /metrics, /health without a token, and /sse and /messages if the transport is "sse".

    Arguments:
        server: handles the messages.
        settings: the HTTP settings.
        is_loopback: only this machine can connect.
        is_healthy: calls can be served, as `/health` reports.
        metrics: counts requests and is shown at `/metrics`; None for new ones.
    """

    def __init__(
        self,
        server: Server,
        settings: HttpSettings,
        *,
        is_loopback: bool = True,
        is_healthy: bool = True,
        metrics: Metrics | None = None,
    ) -> None:
        self._server = server
        self._max_body_bytes = stdio.MAX_LINE_BYTES
        self._access = AccessControl(settings, is_loopback)
        self._is_healthy = is_healthy
        self._metrics = Metrics() if metrics is None else metrics
        self._sessions = Sessions(sessions.MAX_SESSIONS, sessions.IDLE_S, server.forget)
        self._sse_sessions = Sessions(sessions.MAX_SESSIONS, sessions.IDLE_S, server.forget)
        self._routes: dict[str, dict[str, Callable[[Request, int], Any]]] = {
            "/mcp": {"POST": self._post, "GET": self._open_stream, "DELETE": self._end_session},
            METRICS: {"GET": self._show_metrics},
        }
        if settings.transport == "sse":
            self._routes["/sse"] = {"GET": self._open_sse}
            self._routes["/messages"] = {"POST": self._post_message}
        self._paths = frozenset((*self._routes, HEALTH))

    @property
    def n_sessions(self) -> int:
        """The number of sessions."""
        return len(self._sessions) + len(self._sse_sessions)

    def close(self) -> None:
        """Ends the streams that do not end with a response."""
        for transport_sessions in (self._sessions, self._sse_sessions):
            transport_sessions.close_streams()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serves one request (the ASGI interface)."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        path = self._path_of(scope)
        origin: str | None = None
        try:
            if path == HEALTH:
                response: Any = self._health(request)
            else:
                self._access.check_host(request.headers)
                origin = self._access.origin(request.headers)
                response = await self._routed(request, path)
        except HTTPException as error:
            response = refusal(error)
        except ClientDisconnect:
            return
        except Exception:
            log_failure("a request over HTTP")
            response = error_response(ProtocolError(jsonrpc.INTERNAL_ERROR, "Internal error"), 500)
        await response(scope, receive, self._sending(send, path, origin))

    def _sending(self, send: Send, path: str, origin: str | None) -> Send:
        """Counts the response, and adds the CORS headers that let the page at `origin` read it."""
        headers = {} if origin is None else {"Access-Control-Allow-Origin": origin, **_CORS}

        async def sending(message: Any) -> None:
            if message["type"] == "http.response.start":
                self._metrics.request_ended(path, message["status"])
                MutableHeaders(scope=message).update(headers)
            await send(message)

        return sending

    def _path_of(self, scope: Any) -> str:
        """The path for routing and metrics, "other" if there is none. The raw path is compared, without decoding, so
        that a proxy can block a path by its name. One trailing slash is allowed, because some clients add it, except
        for `/metrics`, which proxies block by its exact name."""
        path = scope["raw_path"].decode("ascii", "replace")
        if path.endswith("/") and path != f"{METRICS}/":
            path = path[:-1]
        return path if path in self._paths else OTHER

    async def _routed(self, request: Request, path: str) -> Any:
        methods = self._routes.get(path)
        if methods is None:
            self._access.owner(request.headers)
            raise HTTPException(404, f"Not found. The server has {', '.join(self._routes)}.")
        if request.method == "OPTIONS":
            return Response(None, 204, {"Allow": ", ".join([*methods, "OPTIONS"])})
        owner = self._access.owner(request.headers)
        connection = request.scope.get("state", {}).get(CONNECTION)
        if connection is not None and not connection.authenticate(owner):
            raise HTTPException(
                503, "Too many connections with this token are open. Try again later.", {"Retry-After": "5"}
            )
        handle = methods.get(request.method)
        if handle is None:
            raise HTTPException(405, "Method not allowed.", {"Allow": ", ".join([*methods, "OPTIONS"])})
        return await handle(request, owner)

    async def _post(self, request: Request, owner: int) -> Any:
        takes = accepted(request)
        body = await body_of(request, self._max_body_bytes, self._server.budget_of(owner))
        try:
            message = jsonrpc.parse(body)
            if _is_modern(message, request):
                return self._post_modern(message, request, takes, owner)
        except ProtocolError as error:
            self._metrics.error(error.code)
            return error_response(error, 400)
        session, headers = self._session_for(message, request, owner)
        reply = Reply(takes.json, takes.events, self._metrics.error)
        n_responses = self._handle(message, session.connection, reply)
        if n_responses == 0:
            return Response(None, 202)
        return _in_session(session, PostResponse(reply, modern=False, headers=headers))

    def _post_modern(self, message: Message, request: Request, takes: Accepted, owner: int) -> Any:
        """Handles a stateless message of the modern revisions; raises `ProtocolError`."""
        if isinstance(message, Notification):
            envelope.check_notification(request.headers)
            return Response(None, 202)  # a modern client cancels by closing the response
        if not isinstance(message, jsonrpc.Request):
            raise ProtocolError(jsonrpc.INVALID_REQUEST, "Invalid Request: expected one request or notification")
        try:
            envelope.check(message, request.headers)
        except ProtocolError as error:
            error.request_id = message.id
            raise
        if message.method == "subscriptions/listen" and not takes.events:
            raise HTTPException(406, "A subscription needs text/event-stream, which the Accept header does not allow.")
        connection = Connection(owner=owner)
        reply = Reply(takes.json, takes.events, self._metrics.error)
        self._handle(message, connection, reply)
        return PostResponse(reply, modern=True, gone=lambda: self._server.forget(connection))

    def _session_for(self, message: Message, request: Request, owner: int) -> tuple[Session, dict[str, str]]:
        """The session of a legacy message, and the response headers for a new session; raises `HTTPException`."""
        if isinstance(message, jsonrpc.Request) and message.method == "initialize":
            session = self._begin(self._sessions, owner)
            return session, {SESSION_HEADER: session.id}
        return self._session_of(request, owner), {}

    def _session_of(self, request: Request, owner: int) -> Session:
        session_ids = request.headers.getlist(SESSION_HEADER)
        if len(session_ids) != 1:
            text = (
                "The Mcp-Session-Id header is missing. Send initialize first, or name a protocol version from "
                f"{versions.MODERN[-1]} on in _meta."
            )
            raise HTTPException(400, text)
        return self._found(self._sessions, session_ids[0], owner)

    def _found(self, sessions: Sessions, session_id: str, owner: int) -> Session:
        session = sessions.find(session_id, owner)
        if session is None:
            raise HTTPException(404, "Unknown session. It may have ended. Send initialize to start a new one.")
        return session

    def _begin(self, sessions: Sessions, owner: int) -> Session:
        try:
            return sessions.begin(owner)
        except TooManySessions:
            text = "All sessions of this token are in use. End one, or try again later."
            raise HTTPException(503, text, {"Retry-After": "10"}) from None

    def _handle(self, message: Message, connection: Connection, reply: Reply) -> int:
        n_responses = self._server.handle(message, connection, reply)
        reply.expect(n_responses)
        self._server.hooks.wake()
        return n_responses

    async def _open_stream(self, request: Request, owner: int) -> Any:
        """The stream for messages that belong to no request."""
        if not accepted(request).events:
            raise HTTPException(406, "GET returns text/event-stream, which the Accept header does not allow.")
        if any(version in versions.MODERN for version in request.headers.getlist(envelope.VERSION_HEADER)):
            raise HTTPException(405, "This protocol version has no GET stream.", {"Allow": "POST"})
        session = self._session_of(request, owner)
        stream = Stream(self._server.budget_of(owner))
        session.writer.open(stream)
        return _in_session(session, EventResponse(stream, lambda: session.writer.close(stream)))

    async def _end_session(self, request: Request, owner: int) -> Any:
        self._sessions.end(self._session_of(request, owner))
        return Response(None, 204)

    async def _open_sse(self, request: Request, owner: int) -> Any:
        """A session of the HTTP+SSE transport, which ends with this stream."""
        session = self._begin(self._sse_sessions, owner)
        stream = Stream(self._server.budget_of(owner))
        session.writer.open(stream)
        below = "../" if request.scope["raw_path"].endswith(b"/") else ""
        endpoint = f"{below}messages?session_id={session.id}"  # relative to /sse, so that a proxy may add a prefix
        first = event(endpoint.encode(), b"endpoint")
        return _in_session(session, EventResponse(stream, lambda: self._sse_sessions.end(session), first))

    async def _post_message(self, request: Request, owner: int) -> Any:
        session = self._found(self._sse_sessions, request.query_params.get("session_id", ""), owner)
        body = await body_of(request, self._max_body_bytes, self._server.budget_of(owner))
        try:
            message = jsonrpc.parse(body)
        except ProtocolError as error:
            return error_response(error, 400)
        self._server.handle(message, session.connection, session.writer)
        self._server.hooks.wake()
        return Response("Accepted", 202)

    def _health(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            raise HTTPException(405, "Method not allowed.", {"Allow": "GET, HEAD"})
        body = b'{"status":"ok"}' if self._is_healthy else b'{"status":"misconfigured"}'
        return Response(body, 200 if self._is_healthy else 503, media_type="application/json")

    async def _show_metrics(self, request: Request, owner: int) -> Response:
        return Response(self._metrics.text(), media_type=CONTENT_TYPE)


def _in_session(session: Session, response: EventResponse | PostResponse) -> ASGIApp:
    """A response that keeps its session in use until it ends."""

    async def respond(scope: Any, receive: Receive, send: Send) -> None:
        with session.in_use():
            await response(scope, receive, send)

    return respond


def _is_modern(message: Message, request: Request) -> bool:
    has_session = SESSION_HEADER in request.headers
    if isinstance(message, jsonrpc.Request) and message.method in versions.MODERN_ONLY and not has_session:
        return True
    params = message.params if isinstance(message, jsonrpc.Request | Notification) else {}
    return envelope.is_modern(params, request.headers)
