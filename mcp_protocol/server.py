"""Requests to answers: protocol methods at once on the main thread, tool calls through the queue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec import Raw

from mcp_protocol import jsonrpc, versions
from mcp_protocol.answers import ToolAnswers
from mcp_protocol.call import Answerer, Call, Observe
from mcp_protocol.coercion import arguments_of
from mcp_protocol.connection import OWNER_SHARE, Connection, Exchange, Method, Outlet
from mcp_protocol.jsonrpc import Batch, Json, Message, Notification, ProtocolError, Request
from mcp_protocol.log import log_failure
from mcp_protocol.pages import page
from mcp_protocol.raw_json import waiting_bytes
from mcp_protocol.runner import Runner
from mcp_protocol.server_info import ServerInfo
from mcp_protocol.stdio import LineTooLong, ReaderGone
from mcp_protocol.tools import Toolbox
from mcp_protocol.turn import Turn
from mcp_protocol.versions import LIST_CACHE, Cache, Revision, finished, meta_of
from mcp_protocol.work_queue import IdleTask, QueueFull, Task, WorkQueue
from sandbox.budget import ByteBudget, OverBudget

if TYPE_CHECKING:
    from mcp_protocol.catalogues import Catalogues
    from mcp_protocol.library import Library

DISCOVERY_CACHE = Cache(3_600_000)
UNBOUNDED = 1 << 62
LIBRARY_METHODS = ("resources/", "prompts/", "completion/", "subscriptions/")
"""How the methods begin that `Library` answers, which is loaded with the first of them."""


class Server:
    """Everything between a message that came in and the messages that go out, for all clients.

    One thread hands in messages, and any thread may ask for the rest; what is known of one client is its `Connection`.

    Arguments: who we are; `load_toolbox`, called at the first `tools/list` or `tools/call`;
    `load_catalogues`, called at the first request about resources or prompts, None where there are none; the settings'
    problems, which every tool call answers while there are any; limits in seconds and bytes; how many calls run at a
    time, and how many may wait; `on_start`, run once by the worker after the first sign that a session begins; `wake`,
    which makes the main loop look again; `idle_task`, run by the worker when it is due and nothing else is to be done;
    `observe`, told of each call that has ended; `budgets`, one for each owner of a token, of which calls take their
    arguments' bytes from their arrival to their end. Where there are several owners each has at most half of the queue,
    so that none keeps the others out.
    """

    def __init__(
        self,
        info: ServerInfo,
        load_toolbox: Callable[[], Toolbox],
        load_catalogues: Callable[[], Catalogues] | None = None,
        *,
        problems: tuple[str, ...] = (),
        call_timeout_s: float = 0.0,
        max_line_bytes: int = 64 << 20,
        max_result_bytes: int = 1_000_000,
        max_concurrent: int = 1,
        max_queue: int | None = None,
        on_start: Task | None = None,
        wake: Callable[[], None] = lambda: None,
        on_idle: Callable[[], None] = lambda: None,
        idle_task: IdleTask | None = None,
        observe: Observe | None = None,
        budgets: Sequence[ByteBudget] = (),
    ) -> None:
        self._budgets = list(budgets) or [ByteBudget(UNBOUNDED)]
        self._info = info
        self._server_info = info.as_json()
        self._load_toolbox = load_toolbox
        self._loaded_toolbox: Toolbox | None = None
        self._load_catalogues = load_catalogues
        self._loaded_library: Library | None = None
        self._call_timeout_s = call_timeout_s
        self._max_line_bytes = max_line_bytes
        self._on_start = on_start
        self._wake = wake
        self._observe = observe or (lambda call, outcome: None)
        answers = ToolAnswers(self._server_info, max_result_bytes)
        self._runner = Runner(answers, self._toolbox, problems, self._look_for_changes, wake, self._observe)
        self.queue = WorkQueue(
            self._runner.run_call,
            self._runner.run_task,
            on_idle,
            idle_task,
            on_lost=self._runner.fail_lost,
            n_workers=max_concurrent,
            max_waiting=max_queue,
            share=None if max_queue is None or len(self._budgets) == 1 else max(1, max_queue // OWNER_SHARE),
        )
        self._legacy_methods: dict[str, Method] = {
            "initialize": self._initialize,
            "ping": lambda request, exchange: {},
            "logging/setLevel": self._set_log_level,
        }
        self._modern_methods: dict[str, Method] = {"server/discover": self._discover}
        self._methods: dict[str, Method] = {"tools/list": self._list_tools, "tools/call": self._call_tool}

    def receive(self, line: bytes | LineTooLong, connection: Connection) -> None:
        """Answers one line of a wire, now or later.

        Raises: `ReaderGone` when nobody reads the answers.
        """
        try:
            if isinstance(line, LineTooLong):
                text = f"Invalid Request: a line longer than {self._max_line_bytes} bytes (VLLM_MAX_LINE_BYTES)"
                if line.no_memory:
                    text = "Invalid Request: there was no memory for a line of this length"
                raise ProtocolError(jsonrpc.INVALID_REQUEST, text)
            message = jsonrpc.parse(line)
        except ProtocolError as error:
            connection.outlet.refuse(error)
        else:
            self.handle(message, connection, connection.outlet)

    def handle(self, message: Message, connection: Connection, outlet: Outlet) -> int:
        """Answers one message through an outlet, now or later; returns how many answers it gets in all."""
        if isinstance(message, Request):
            self._answer(message, connection, outlet)
            return 1
        if isinstance(message, Batch):
            return self._handle_batch(message, connection, outlet)
        if message is not None:
            self._notice(message, connection)
        return 0

    def _handle_batch(self, batch: Batch, connection: Connection, outlet: Outlet) -> int:
        """Reads the messages of a batch one by one and answers each on a line of its own."""
        if connection.settled_version != versions.BATCHES or not batch.items:
            outlet.refuse(ProtocolError(jsonrpc.INVALID_REQUEST, "Invalid Request: expected a JSON object"))
            return 1
        n_answers = 0
        for item in batch.items:
            try:
                message = jsonrpc.message_of(item)
                if isinstance(message, Request) and message.method == "initialize":
                    text = "Invalid Request: initialize cannot be part of a batch"
                    raise ProtocolError(jsonrpc.INVALID_REQUEST, text, request_id=message.id)
            except ProtocolError as error:
                outlet.refuse(error)
                n_answers += 1
            else:
                n_answers += self.handle(message, connection, outlet)
        return n_answers

    def budget_of(self, owner: int) -> ByteBudget:
        """What an owner's messages count in, from their first byte to the end of the call."""
        return self._budgets[owner]

    def forget(self, connection: Connection) -> None:
        """Cancels all that a client waits for: it is gone."""
        for call in self.queue.cancel_all(connection):
            self._end_cancelled(call)
        if self._loaded_library is not None:
            self._loaded_library.subscriptions.forget(connection)

    def _notice(self, notification: Notification, connection: Connection) -> None:
        if notification.method == "notifications/cancelled" and "requestId" in notification.params:
            request_id = notification.params["requestId"]
            call = self.queue.cancel(request_id, connection)
            if call is not None:
                self._end_cancelled(call)
            elif self._loaded_library is not None:
                self._loaded_library.subscriptions.cancel(request_id, connection)

    def _end_cancelled(self, call: Call) -> None:
        call.outlet.end()
        self._observe(call, "cancelled")

    def _answer(self, request: Request, connection: Connection, outlet: Outlet) -> None:
        try:
            revision = versions.revision_of(request.params, connection.settled_version)
            if not revision.modern and not connection.initialized and request.method in versions.MODERN_ONLY:
                raise versions.missing_envelope()
            exchange = Exchange(connection, outlet, revision)
            result = self._method(request.method, revision)(request, exchange)
        except ProtocolError as error:
            error.request_id = request.id
            outlet.refuse(error)
            return
        except ReaderGone:
            raise
        except BaseException:  # also what a library throws that wants to end the process
            log_failure(request.method)
            outlet.refuse(ProtocolError(jsonrpc.INTERNAL_ERROR, "Internal error", request_id=request.id))
            return
        if result is not None:
            outlet.answer(jsonrpc.encode(jsonrpc.result_message(request.id, result)))
        if request.method in ("initialize", "tools/list"):
            self.start()

    def _method(self, name: str, revision: Revision) -> Method:
        era = self._modern_methods if revision.modern else self._legacy_methods
        method = self._methods.get(name) or era.get(name)
        if method is None and self._load_catalogues is not None and name.startswith(LIBRARY_METHODS):
            method = self._library(self._load_catalogues).method(name, revision)
        if method is None:
            raise ProtocolError(jsonrpc.METHOD_NOT_FOUND, f"Method not found: {name[:200]}")
        return method

    def start(self) -> None:
        """Queues the work that a first session begins with; asking for discovery alone is no beginning."""
        if self._on_start is not None:
            self.queue.put(self._on_start)
            self._on_start = None

    def _initialize(self, request: Request, exchange: Exchange) -> Json:
        connection = exchange.connection
        connection.settled_version = versions.settle(request.params.get("protocolVersion"))
        connection.initialized = True
        if self._loaded_library is not None:
            self._loaded_library.subscriptions.forget_legacy(connection)
        return {
            "protocolVersion": connection.settled_version,
            "capabilities": versions.capabilities(exchange.revision, with_catalogues=self._load_catalogues is not None),
            "serverInfo": self._server_info,
            "instructions": self._info.instructions,
        }

    def _discover(self, request: Request, exchange: Exchange) -> Json:
        result: Json = {
            "supportedVersions": list(versions.SUPPORTED),
            "capabilities": versions.capabilities(exchange.revision, with_catalogues=self._load_catalogues is not None),
            "instructions": self._info.instructions,
        }
        return finished(result, exchange.revision, self._server_info, DISCOVERY_CACHE)

    def _set_log_level(self, request: Request, exchange: Exchange) -> Json:
        level = request.params.get("level")
        if level not in versions.LOG_LEVELS:
            raise ProtocolError(
                jsonrpc.INVALID_PARAMS, f"Invalid params: level must be one of {', '.join(versions.LOG_LEVELS)}"
            )
        exchange.connection.log_level = level
        return {}

    def _list_tools(self, request: Request, exchange: Exchange) -> Json:
        listed = page("tools", self._toolbox().listing(), request.params)
        return finished(listed, exchange.revision, self._server_info, LIST_CACHE)

    def _call_tool(self, request: Request, exchange: Exchange) -> None:
        name, arguments = request.params.get("name"), arguments_of(request.params.get("arguments"))
        if not isinstance(name, str):
            raise ProtocolError(jsonrpc.INVALID_PARAMS, "Invalid params: name must be a string")
        if not isinstance(arguments, dict | Raw | None):
            raise ProtocolError(jsonrpc.INVALID_PARAMS, "Invalid params: arguments must be an object")
        if name not in self._toolbox():
            raise ProtocolError(jsonrpc.INVALID_PARAMS, f"Unknown tool: {name[:200]}")
        self._enqueue(request, exchange, name, {} if arguments is None else arguments)

    def _enqueue(
        self,
        request: Request,
        exchange: Exchange,
        name: str,
        arguments: Json | Raw,
        answerer: Answerer | None = None,
        turn: Turn | None = None,
    ) -> None:
        meta = meta_of(request.params)
        early = self._toolbox().early(name, arguments) if answerer is None else {}
        call = Call(
            request.id,
            name,
            arguments,
            exchange.revision,
            connection=exchange.connection,
            outlet=exchange.outlet,
            progress_token=versions.progress_token_of(meta),
            log_level=versions.log_level_of(meta) if exchange.revision.modern else exchange.connection.log_level,
            timeout_s=self._call_timeout_s,
            wake=self._wake,
            on_phase=self._look_for_changes,
            answerer=answerer,
            turn=turn or self._toolbox().turn(name, early),
            budget=self.budget_of(exchange.connection.owner),
        )
        if answerer is None and (limit_s := self._toolbox().timeout_s(name, early)) is not None:
            call.limit(limit_s)
        try:
            if isinstance(arguments, Raw) or self.queue.is_busy:  # else it is short and begins at once
                call.hold(waiting_bytes(arguments))
            self.queue.put(call)
        except (QueueFull, OverBudget) as full:
            if call.claim():
                self.fail(call, str(full))

    def _toolbox(self) -> Toolbox:
        if self._loaded_toolbox is None:
            self._loaded_toolbox = self._load_toolbox()
        return self._loaded_toolbox

    def _library(self, load_catalogues: Callable[[], Catalogues]) -> Library:
        if self._loaded_library is None:
            from mcp_protocol.library import Library

            catalogues = load_catalogues()
            self._loaded_library = Library(catalogues, self._server_info, self._enqueue)
            self.queue.put(Task("resources", lambda enter_phase: catalogues.prepare(), at_once=True))
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
        except BaseException:  # nobody's call depends on it
            log_failure("looking for changes")

    def fail(self, call: Call, text: str, outcome: str = "error") -> None:
        """Answers a claimed call with an error: a tool's in its result, any other's as the protocol's."""
        self._runner.fail(call, text, outcome)
