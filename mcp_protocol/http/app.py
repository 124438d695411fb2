"""The ASGI application: which path is what, and who is let in to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from mcp_protocol import jsonrpc, versions
from mcp_protocol.connection import Connection
from mcp_protocol.http import envelope
from mcp_protocol.http.guard import Guard, Refused
from mcp_protocol.http.metrics import CONTENT_TYPE, Metrics, Sample
from mcp_protocol.http.options import HttpOptions
from mcp_protocol.http.posts import Accepted, PostResponse, accepted, body_of, error_response, refusal
from mcp_protocol.http.sessions import Session, Sessions, TooManySessions
from mcp_protocol.http.streams import EventResponse, Receive, Reply, Send, Stream, event
from mcp_protocol.http.wire import CONNECTION
from mcp_protocol.jsonrpc import Message, Notification, ProtocolError
from mcp_protocol.log import log_failure
from mcp_protocol.server import Server

SESSION_HEADER = "mcp-session-id"
METRICS, HEALTH, OTHER = "/metrics", "/health", "other"
_NO_SESSION = "This session is not known: it has ended, or never was. Begin another with initialize."
_CORS = {
    "Access-Control-Allow-Methods": "GET, POST, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "Accept, Authorization, Content-Type, Last-Event-ID, Mcp-Method, Mcp-Name, "
    "Mcp-Protocol-Version, Mcp-Session-Id",
    "Access-Control-Expose-Headers": "Mcp-Session-Id, WWW-Authenticate",
    "Access-Control-Max-Age": "600",
}


class HttpApp:
    """Serves /mcp, where wanted /sse and /messages, /metrics, and without a token /health.

    Arguments: the server; the options; whether only this machine can reach us; `wake`, which makes the main loop look
    at the deadlines; `healthy`, which tells whether calls can be served; `metrics`, which count, and are shown with
    `samples`.
    """

    def __init__(
        self,
        server: Server,
        options: HttpOptions,
        *,
        is_loopback: bool = True,
        wake: Callable[[], None] = lambda: None,
        healthy: Callable[[], bool] = lambda: True,
        metrics: Metrics | None = None,
        samples: Callable[[], Iterable[Sample]] = lambda: (),
    ) -> None:
        self._server = server
        self._options = options
        self._guard = Guard(options, is_loopback)
        self._wake = wake
        self._healthy = healthy
        self._metrics = Metrics() if metrics is None else metrics
        self._samples = samples
        self._sessions = Sessions(options.max_sessions, options.session_idle_s, server.forget)
        self._sse_sessions = Sessions(options.max_sessions, options.session_idle_s, server.forget)
        self._routes: dict[str, dict[str, Callable[[Request, int], Any]]] = {
            "/mcp": {"POST": self._post, "GET": self._open_stream, "DELETE": self._end_session},
            METRICS: {"GET": self._show_metrics},
        }
        if options.sse:
            self._routes["/sse"] = {"GET": self._open_sse}
            self._routes["/messages"] = {"POST": self._post_message}
        self._paths = frozenset((*self._routes, HEALTH))

    @property
    def n_sessions(self) -> int:
        """How many clients have a session."""
        return len(self._sessions) + len(self._sse_sessions)

    def close(self) -> None:
        """Ends the streams that no answer ends."""
        for sessions in (self._sessions, self._sse_sessions):
            sessions.close_streams()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answers one request as an ASGI application."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        path = self._path_of(scope)
        origin: str | None = None
        try:
            if path == HEALTH:
                response: Any = self._health(request)
            else:
                self._guard.check_host(request.headers)
                origin = self._guard.origin(request.headers)
                response = await self._routed(request, path)
        except Refused as refused:
            response = refusal(refused.status, str(refused), refused.headers)
        except ClientDisconnect:
            return
        except Exception:
            log_failure("a request over HTTP")
            response = error_response(ProtocolError(jsonrpc.INTERNAL_ERROR, "Internal error"), 500)
        send = _counting(send, lambda status: self._metrics.request_ended(path, status))
        await response(scope, receive, send if origin is None else _with_cors(send, origin))

    def _path_of(self, scope: Any) -> str:
        """Which of our paths a request is for, or "other": the one reading of it for answers, checks and figures.

        Paths are compared as they came, so that a proxy which hides one hides all there is: nothing is decoded or
        folded. Hosts write one slash behind the others; the figures have a single name, which proxies hide.
        """
        path = scope["raw_path"].decode("ascii", "replace")
        if path.endswith("/") and path != f"{METRICS}/":
            path = path[:-1]
        return path if path in self._paths else OTHER

    async def _routed(self, request: Request, path: str) -> Any:
        methods = self._routes.get(path)
        if methods is None:
            self._guard.owner(request.headers)
            raise Refused(404, f"There is nothing here; the protocol is at {', '.join(self._routes)}.")
        if request.method == "OPTIONS":
            return Response(None, 204, {"Allow": ", ".join([*methods, "OPTIONS"])})
        owner = self._guard.owner(request.headers)
        connection = request.scope.get("state", {}).get(CONNECTION)
        if connection is not None and not connection.belongs_to(owner):
            raise Refused(503, "Too many connections with this token are open. Try again later.", {"Retry-After": "5"})
        handle = methods.get(request.method)
        if handle is None:
            raise Refused(405, "This method is not for this path.", {"Allow": ", ".join([*methods, "OPTIONS"])})
        return await handle(request, owner)

    # Streamable HTTP

    async def _post(self, request: Request, owner: int) -> Any:
        takes = accepted(request)
        body = await body_of(request, self._options.max_body_bytes, self._server.budget_of(owner))
        try:
            message = jsonrpc.parse(body)
            if _is_modern(message, request):
                return self._post_modern(message, request, takes, owner)
        except ProtocolError as error:
            self._metrics.error(error.code)
            return error_response(error, 400)
        session, headers = self._session_for(message, request, owner)
        reply = Reply(takes.json, takes.events, self._metrics.error)
        n_answers = self._handle(message, session.connection, reply)
        if n_answers == 0:
            return Response(None, 202)
        return _Held(session, PostResponse(reply, modern=False, headers=headers))

    def _post_modern(self, message: Message, request: Request, takes: Accepted, owner: int) -> Any:
        """Answers a message that stands alone: nothing of it is left when its response ends.

        Raises: `ProtocolError`.
        """
        if isinstance(message, Notification):
            envelope.check_notification(request.headers)
            return Response(None, 202)  # whoever no longer wants an answer ends the response
        if not isinstance(message, jsonrpc.Request):
            raise ProtocolError(jsonrpc.INVALID_REQUEST, "Invalid Request: expected one request or notification")
        try:
            envelope.check(message, request.headers)
        except ProtocolError as error:
            error.request_id = message.id
            raise
        if message.method == "subscriptions/listen" and not takes.events:
            raise Refused(406, "A subscription is a stream; the Accept header does not allow text/event-stream.")
        connection = Connection(owner=owner)
        reply = Reply(takes.json, takes.events, self._metrics.error)
        self._handle(message, connection, reply)
        return PostResponse(reply, modern=True, gone=lambda: self._server.forget(connection))

    def _session_for(self, message: Message, request: Request, owner: int) -> tuple[Session, dict[str, str]]:
        """The session that a legacy message belongs to, and the headers that tell the client of a new one.

        Raises: `Refused`.
        """
        if isinstance(message, jsonrpc.Request) and message.method == "initialize":
            session = self._begin(self._sessions, owner)
            return session, {SESSION_HEADER: session.id}
        return self._session_of(request, owner), {}

    def _session_of(self, request: Request, owner: int) -> Session:
        session_ids = request.headers.getlist(SESSION_HEADER)
        if len(session_ids) != 1:
            text = (
                "The Mcp-Session-Id header is missing: send initialize first, or say in _meta which revision from "
                f"{versions.MODERN[-1]} on the request speaks."
            )
            raise Refused(400, text)
        session = self._sessions.find(session_ids[0], owner)
        if session is None:
            raise Refused(404, _NO_SESSION)
        return session

    def _begin(self, sessions: Sessions, owner: int) -> Session:
        try:
            return sessions.begin(owner)
        except TooManySessions:
            raise Refused(
                503, "All sessions of this token are in use. End one, or try again later.", {"Retry-After": "10"}
            ) from None

    def _handle(self, message: Message, connection: Connection, reply: Reply) -> int:
        n_answers = self._server.handle(message, connection, reply)
        reply.expect(n_answers)
        self._wake()
        return n_answers

    async def _open_stream(self, request: Request, owner: int) -> Any:
        """The stream of what is said to a client without a request."""
        if not accepted(request).events:
            raise Refused(406, "What is here is a stream; the Accept header does not allow text/event-stream.")
        if any(version in versions.MODERN for version in request.headers.getlist(envelope.VERSION_HEADER)):
            raise Refused(405, "There is no such stream in this revision.", {"Allow": "POST"})
        session = self._session_of(request, owner)
        stream = Stream(self._server.budget_of(owner))
        session.outlet.open(stream)
        return _Held(session, EventResponse(stream, lambda: session.outlet.close(stream)))

    async def _end_session(self, request: Request, owner: int) -> Any:
        self._sessions.end(self._session_of(request, owner))
        return Response(None, 204)

    # The older transport

    async def _open_sse(self, request: Request, owner: int) -> Any:
        """A session that lasts as long as this stream, which carries all answers."""
        session = self._begin(self._sse_sessions, owner)
        stream = Stream(self._server.budget_of(owner))
        session.outlet.open(stream)
        below = "../" if request.scope["raw_path"].endswith(b"/") else ""
        endpoint = f"{below}messages?session_id={session.id}"  # counts from /sse, wherever a proxy has put that
        first = event(endpoint.encode(), b"endpoint")
        return _Held(session, EventResponse(stream, lambda: self._sse_sessions.end(session), first))

    async def _post_message(self, request: Request, owner: int) -> Any:
        session = self._sse_sessions.find(request.query_params.get("session_id", ""), owner)
        if session is None:
            raise Refused(404, _NO_SESSION)
        body = await body_of(request, self._options.max_body_bytes, self._server.budget_of(owner))
        try:
            message = jsonrpc.parse(body)
        except ProtocolError as error:
            return error_response(error, 400)
        self._server.handle(message, session.connection, session.outlet)
        self._wake()
        return Response("Accepted", 202)

    # Beside the protocol

    def _health(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            raise Refused(405, "This method is not for this path.", {"Allow": "GET, HEAD"})
        healthy = self._healthy()
        body = b'{"status":"ok"}' if healthy else b'{"status":"misconfigured"}'
        return Response(body, 200 if healthy else 503, media_type="application/json")

    async def _show_metrics(self, request: Request, owner: int) -> Response:
        return Response(self._metrics.text(self._samples()), media_type=CONTENT_TYPE)


class _Held:
    """A response during which its session is in use."""

    def __init__(self, session: Session, response: EventResponse | PostResponse) -> None:
        self._session = session
        self._response = response

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        with self._session.in_use():
            await self._response(scope, receive, send)


def _is_modern(message: Message, request: Request) -> bool:
    has_session = SESSION_HEADER in request.headers
    if isinstance(message, jsonrpc.Request) and message.method in versions.MODERN_ONLY and not has_session:
        return True
    params = message.params if isinstance(message, jsonrpc.Request | Notification) else {}
    return envelope.is_modern(params, request.headers)


def _counting(send: Send, count: Callable[[int], None]) -> Send:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            count(message["status"])
        await send(message)

    return sending


def _with_cors(send: Send, origin: str) -> Send:
    """Lets the page that asked see the response."""
    headers = {"Access-Control-Allow-Origin": origin, "Vary": "Origin", **_CORS}
    pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]

    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *pairs]}
        await send(message)

    return sending
