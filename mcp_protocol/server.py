"""Requests to answers: protocol methods at once on the main thread, tool calls through the queue."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from mcp_protocol import jsonrpc, versions
from mcp_protocol.call import Answerer, Call
from mcp_protocol.jsonrpc import Batch, Json, Notification, ProtocolError, Request
from mcp_protocol.log import log, log_failure
from mcp_protocol.pages import page
from mcp_protocol.stdio import LineTooLong, ReaderGone, Wire
from mcp_protocol.tools import Toolbox, error_result
from mcp_protocol.versions import LIST_CACHE, Cache, Revision, finished, meta_of
from mcp_protocol.work_queue import IdleTask, Task, WorkQueue

if TYPE_CHECKING:
    from mcp_protocol.catalogues import Catalogues
    from mcp_protocol.library import Library

DISCOVERY_CACHE = Cache(3_600_000)
LIBRARY_METHODS = ("resources/", "prompts/", "completion/", "subscriptions/")
"""How the methods begin that `Library` answers, which is loaded with the first of them."""

Method = Callable[[Request, Revision], Json | None]
"""Answers a request with its result, or returns None when the answer comes later."""


class ServerInfo(msgspec.Struct, frozen=True):
    """How the server introduces itself."""

    name: str
    title: str
    version: str
    description: str
    instructions: str

    def as_json(self) -> Json:
        """The `serverInfo` of MCP."""
        return {"name": self.name, "title": self.title, "version": self.version, "description": self.description}


class Server:
    """Everything between a line that came in and the lines that go out.

    Arguments: the wire; who we are; `load_toolbox`, called at the first `tools/list` or `tools/call`;
    `load_catalogues`, called at the first request about resources or prompts, None where there are none; the settings'
    problems, which every tool call answers while there are any; limits in seconds and bytes; `on_start`, run once by
    the worker after the first sign that a session begins; `wake`, which makes the main loop look again; `idle_task`,
    run by the worker when it is due and nothing else is to be done.
    """

    def __init__(
        self,
        wire: Wire,
        info: ServerInfo,
        load_toolbox: Callable[[], Toolbox],
        load_catalogues: Callable[[], Catalogues] | None = None,
        *,
        problems: tuple[str, ...] = (),
        call_timeout_s: float = 0.0,
        max_line_bytes: int = 64 << 20,
        max_result_bytes: int = 1_000_000,
        on_start: Task | None = None,
        wake: Callable[[], None] = lambda: None,
        on_idle: Callable[[], None] = lambda: None,
        idle_task: IdleTask | None = None,
    ) -> None:
        self._wire = wire
        self._info = info
        self._server_info = info.as_json()
        self._load_toolbox = load_toolbox
        self._loaded_toolbox: Toolbox | None = None
        self._load_catalogues = load_catalogues
        self._loaded_library: Library | None = None
        self._problems = problems
        self._call_timeout_s = call_timeout_s
        self._max_line_bytes = max_line_bytes
        self._max_result_bytes = max_result_bytes
        self._on_start = on_start
        self._wake = wake
        self._settled_version = versions.WITHOUT_HANDSHAKE
        self._initialized = False
        self._log_level: str | None = None
        self.queue = WorkQueue(self._run_call, self._run_task, on_idle, idle_task)
        self._legacy_methods: dict[str, Method] = {
            "initialize": self._initialize,
            "ping": lambda request, revision: {},
            "logging/setLevel": self._set_log_level,
        }
        self._modern_methods: dict[str, Method] = {"server/discover": self._discover}
        self._methods: dict[str, Method] = {"tools/list": self._list_tools, "tools/call": self._call_tool}

    def receive(self, line: bytes | LineTooLong) -> None:
        """Answers one line, now or later.

        Raises: `ReaderGone` when nobody reads the answers.
        """
        try:
            if isinstance(line, LineTooLong):
                text = f"Invalid Request: a line longer than {self._max_line_bytes} bytes (VLLM_MAX_LINE_BYTES)"
                if line.no_memory:
                    text = "Invalid Request: there was no memory for a line of this length"
                raise ProtocolError(jsonrpc.INVALID_REQUEST, text)
            message = jsonrpc.parse(line)
            if isinstance(message, Batch):
                self._receive_batch(message)
            else:
                self._dispatch(message)
        except ProtocolError as error:
            self._send(jsonrpc.error_message(error))

    def _receive_batch(self, batch: Batch) -> None:
        """Reads the messages of a batch one by one and answers each on a line of its own."""
        if self._settled_version != versions.BATCHES or not batch.items:
            raise ProtocolError(jsonrpc.INVALID_REQUEST, "Invalid Request: expected a JSON object")
        for item in batch.items:
            try:
                message = jsonrpc.message_of(item)
                if isinstance(message, Request) and message.method == "initialize":
                    text = "Invalid Request: initialize cannot be part of a batch"
                    raise ProtocolError(jsonrpc.INVALID_REQUEST, text, request_id=message.id)
                self._dispatch(message)
            except ProtocolError as error:
                self._send(jsonrpc.error_message(error))

    def _dispatch(self, message: Request | Notification | None) -> None:
        if isinstance(message, Notification):
            self._notice(message)
        elif isinstance(message, Request):
            self._answer(message)

    def _notice(self, notification: Notification) -> None:
        if notification.method == "notifications/cancelled" and "requestId" in notification.params:
            request_id = notification.params["requestId"]
            if not self.queue.cancel(request_id) and self._loaded_library is not None:
                self._loaded_library.subscriptions.cancel(request_id)

    def _answer(self, request: Request) -> None:
        try:
            revision = versions.revision_of(request.params, self._settled_version)
            result = self._method(request.method, revision)(request, revision)
        except ProtocolError as error:
            error.request_id = request.id
            raise
        except ReaderGone:
            raise
        except Exception:
            log_failure(request.method)
            raise ProtocolError(jsonrpc.INTERNAL_ERROR, "Internal error", request_id=request.id) from None
        if result is not None:
            self._send(jsonrpc.result_message(request.id, result))
        if request.method in ("initialize", "tools/list"):
            self._start()

    def _method(self, name: str, revision: Revision) -> Method:
        era = self._modern_methods if revision.modern else self._legacy_methods
        method = self._methods.get(name) or era.get(name)
        if method is None and self._load_catalogues is not None and name.startswith(LIBRARY_METHODS):
            method = self._library(self._load_catalogues).method(name, revision)
        if method is None:
            raise ProtocolError(jsonrpc.METHOD_NOT_FOUND, f"Method not found: {name[:200]}")
        return method

    def _start(self) -> None:
        """Queues the work that a session begins with; asking for discovery alone is no beginning."""
        if self._on_start is not None:
            self.queue.put(self._on_start)
            self._on_start = None

    def _initialize(self, request: Request, revision: Revision) -> Json:
        self._settled_version = versions.settle(request.params.get("protocolVersion"))
        self._initialized = True
        if self._loaded_library is not None:
            self._loaded_library.subscriptions.forget_legacy()
        return {
            "protocolVersion": self._settled_version,
            "capabilities": versions.capabilities(revision, with_catalogues=self._load_catalogues is not None),
            "serverInfo": self._server_info,
            "instructions": self._info.instructions,
        }

    def _discover(self, request: Request, revision: Revision) -> Json:
        result: Json = {
            "supportedVersions": list(versions.SUPPORTED),
            "capabilities": versions.capabilities(revision, with_catalogues=self._load_catalogues is not None),
            "instructions": self._info.instructions,
        }
        return finished(result, revision, self._server_info, DISCOVERY_CACHE)

    def _set_log_level(self, request: Request, revision: Revision) -> Json:
        level = request.params.get("level")
        if level not in versions.LOG_LEVELS:
            raise ProtocolError(
                jsonrpc.INVALID_PARAMS, f"Invalid params: level must be one of {', '.join(versions.LOG_LEVELS)}"
            )
        self._log_level = level
        return {}

    def _list_tools(self, request: Request, revision: Revision) -> Json:
        listed = page("tools", self._toolbox().listing(), request.params)
        return finished(listed, revision, self._server_info, LIST_CACHE)

    def _call_tool(self, request: Request, revision: Revision) -> None:
        name, arguments = request.params.get("name"), request.params.get("arguments")
        if not isinstance(name, str):
            raise ProtocolError(jsonrpc.INVALID_PARAMS, "Invalid params: name must be a string")
        if arguments is None:
            arguments = {}
        if not isinstance(arguments, dict):
            raise ProtocolError(jsonrpc.INVALID_PARAMS, "Invalid params: arguments must be an object")
        if name not in self._toolbox():
            raise ProtocolError(jsonrpc.INVALID_PARAMS, f"Unknown tool: {name[:200]}")
        self._enqueue(request, revision, name, arguments)

    def _enqueue(
        self, request: Request, revision: Revision, name: str, arguments: Json, answerer: Answerer | None = None
    ) -> None:
        meta = meta_of(request.params)
        self.queue.put(
            Call(
                request.id,
                name,
                arguments,
                revision,
                progress_token=_progress_token(meta),
                log_level=_log_level(meta) if revision.modern else self._log_level,
                timeout_s=self._call_timeout_s,
                send=self._send,
                wake=self._wake,
                on_phase=self._look_for_changes,
                answerer=answerer,
                about_jobs=answerer is None and self._toolbox().is_about_jobs(name),
            )
        )

    def _toolbox(self) -> Toolbox:
        if self._loaded_toolbox is None:
            self._loaded_toolbox = self._load_toolbox()
        return self._loaded_toolbox

    def _library(self, load_catalogues: Callable[[], Catalogues]) -> Library:
        if self._loaded_library is None:
            from mcp_protocol.library import Library

            catalogues = load_catalogues()
            self._loaded_library = Library(
                catalogues, self._server_info, self._send, self._enqueue, lambda: self._initialized
            )
            self.queue.put(Task("resources", lambda enter_phase: catalogues.prepare()))
        return self._loaded_library

    def end_subscriptions(self) -> None:
        """Answers the requests that opened streams: the server ends."""
        if self._loaded_library is not None:
            self._loaded_library.end_subscriptions()

    def _look_for_changes(self) -> None:
        """Tells those who asked for it what the worker has changed."""
        try:
            if self._loaded_library is not None:
                self._loaded_library.subscriptions.look()
        except ReaderGone:
            self._wake()

    def _run_call(self, call: Call) -> None:
        """Runs one call on the worker thread and answers it, unless somebody else has."""
        try:
            line = self._tool_line(call) if call.answerer is None else call.answerer.line(call)
            if call.claim():
                self._write_answer(call, line)
        except ReaderGone:
            self._wake()
        except Exception:
            log_failure(call.tool)
            if call.claim():
                self.fail(call, "Internal error; details are in the server's log.")
        self._look_for_changes()

    def _tool_line(self, call: Call) -> bytes:
        result = error_result("\n".join(self._problems)) if self._problems else self._toolbox().run(call)
        return self._answer_line(call, result)

    def _run_task(self, task: Task) -> None:
        try:
            task.run(self._look_for_changes)
        except Exception as error:
            log("ERROR", f"{task.name} failed: {error}")
        self._look_for_changes()

    def fail(self, call: Call, text: str) -> None:
        """Answers a claimed call with an error: a tool's in its result, any other's as the protocol's."""
        try:
            if call.answerer is None:
                line = self._answer_line(call, error_result(text))
            else:
                line = call.answerer.failure_line(call, text)
            self._write_answer(call, line)
        except ReaderGone:
            self._wake()

    def _write_answer(self, call: Call, line: bytes) -> None:
        try:
            self._wire.write(line)
        finally:
            call.settled = True

    def _answer_line(self, call: Call, result: Json) -> bytes:
        """The answer as a line within the limit: where it is too long without its previews, or an error instead."""
        line = self._result_line(call, result)
        n_bytes, max_bytes = len(line), self._max_result_bytes
        if len(line) > max_bytes:
            line = self._result_line(call, _without_previews(result))
        if len(line) > max_bytes:
            text = (
                f"The result has {n_bytes} bytes; VLLM_MAX_RESULT_BYTES allows {max_bytes}. "
                "Ask for less at once, for example with a smaller max_tokens or fewer items."
            )
            line = self._result_line(call, error_result(text))
        return line

    def _result_line(self, call: Call, result: Json) -> bytes:
        answer = finished(result, call.revision, self._server_info)
        return jsonrpc.encode(jsonrpc.result_message(call.request_id, answer))

    def _send(self, message: Json) -> None:
        self._wire.write(jsonrpc.encode(message))


def _without_previews(result: Json) -> Json:
    return {**result, "content": [block for block in result["content"] if block["type"] != "image"]}


def _progress_token(meta: Json) -> Any:
    """The caller's token, which may be 0 or empty; anything but a string or a number is no token."""
    token = meta.get("progressToken")
    return token if isinstance(token, str | int | float) and not isinstance(token, bool) else None


def _log_level(meta: Json) -> str | None:
    level = meta.get(versions.META_LOG_LEVEL)
    return level if level in versions.LOG_LEVELS else None
