"""Dispatches messages: `tools/call` goes through the queue, other methods respond at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec import Raw

from mcp_protocol import jsonrpc, stdio, versions
from mcp_protocol.calls.answers import Retry, retry_of
from mcp_protocol.calls.call import Call, Hooks, RequestHandler
from mcp_protocol.calls.parked_calls import INPUT_ENDED
from mcp_protocol.calls.scheduling_policy import SchedulingPolicy
from mcp_protocol.calls.task import IdleTask, Task
from mcp_protocol.calls.work_queue import QueueFull, WorkQueue
from mcp_protocol.connection import OWNER_SHARE, Connection, MessageWriter, Method, RequestContext, context_of
from mcp_protocol.handshake import Handshake
from mcp_protocol.jsonrpc import Batch, Json, Message, Notification, ProtocolError, Request, Response
from mcp_protocol.log import log_failure
from mcp_protocol.pages import page
from mcp_protocol.raw_json import waiting_bytes
from mcp_protocol.runner import Runner
from mcp_protocol.server_info import ServerInfo
from mcp_protocol.stdio import LineTooLong, ReaderGone
from mcp_protocol.task_support import TaskSupport
from mcp_protocol.tools.coercion import arguments_of
from mcp_protocol.tools.toolbox import Toolbox
from mcp_protocol.versions import LIST_CACHE, Cache, Revision, finished
from sandbox.budget import ByteBudget, OverBudget
from settings.server import ServerSettings

if TYPE_CHECKING:
    from mcp_protocol.resources.methods import ResourceMethods
    from mcp_protocol.resources.registry import ResourceRegistry
    from mcp_protocol.tasks.call_task import CallTask

LIST_CACHE_OF_A_CLIENT = Cache(LIST_CACHE.ttl_ms, "private")
"""For the tools, where clients with MCP Apps get more of them than others."""
UNBOUNDED = 1 << 62
RESOURCE_METHODS = ("resources/", "prompts/", "completion/", "subscriptions/")
"""Prefixes of the methods of `ResourceMethods`, which is loaded with the first of them."""


NO_HOOKS = Hooks()


class Server:
    """Handles the messages of all clients; the state of one client is its `Connection`.

    One thread passes in messages; any thread may call the other methods.

    Arguments:
        info: name, version and instructions of the server.
        settings: timeout, size and concurrency limits.
        load_toolbox: called at the first `tools/list` or `tools/call`.
        load_resources: called at the first request about resources or prompts; None where there are none.
        problems: errors in the settings; while there are any, every tool call returns them.
        startup_task: run once, after the first `initialize` or `tools/list`.
        idle_task: run when it is due and the queue is empty.
        hooks: functions that the server calls.
        budgets: one per owner; they limit the bytes of the arguments of unfinished calls.
        task_ttl_s: how long a call that became a task is kept after its end; None for no tasks.
    """

    def __init__(
        self,
        info: ServerInfo,
        settings: ServerSettings,
        load_toolbox: Callable[[], Toolbox],
        load_resources: Callable[[], ResourceRegistry] | None = None,
        *,
        problems: tuple[str, ...] = (),
        startup_task: Task | None = None,
        idle_task: IdleTask | None = None,
        hooks: Hooks = NO_HOOKS,
        budgets: Sequence[ByteBudget] = (),
        task_ttl_s: float | None = None,
    ) -> None:
        self.settings = settings
        self._budgets = list(budgets) or [ByteBudget(UNBOUNDED)]
        self._server_info = info.as_json()
        self._load_toolbox = load_toolbox
        self._loaded_toolbox: Toolbox | None = None
        self._load_resources = load_resources
        self._resource_methods: ResourceMethods | None = None
        self._startup_task = startup_task
        self.hooks = hooks
        self._runner = Runner(
            self._server_info, settings.max_result_bytes, self._toolbox, problems, self._notify_changes, hooks
        )
        self._tasks = TaskSupport(task_ttl_s, len(self._budgets), self._server_info, self._cancel_calls, hooks.wake)
        self._handshake = Handshake(
            info,
            with_resources=load_resources is not None,
            with_apps=settings.apps,
            with_tasks=task_ttl_s is not None,
        )
        n_shares = 1 if len(self._budgets) == 1 else OWNER_SHARE
        self.queue = WorkQueue(
            self._runner.run_call,
            self._runner.run_task,
            hooks.on_item_end,
            idle_task,
            on_lost=self._runner.fail_lost,
            on_parked=hooks.wake,
            n_workers=settings.max_concurrent,
            max_waiting=settings.max_queue,
            max_waiting_per_owner=max(1, settings.max_queue // n_shares),
        )
        self._runner.open_question = self.queue.parked.begin
        self._legacy_methods: dict[str, Method] = {
            "initialize": self._initialize,
            "ping": lambda request, context: {},
            "logging/setLevel": self._handshake.set_log_level,
        }
        self._modern_methods: dict[str, Method] = {"server/discover": self._handshake.discover}
        self._methods: dict[str, Method] = {"tools/list": self._list_tools, "tools/call": self._call_tool}

    def receive(self, line: bytes | LineTooLong, connection: Connection) -> None:
        """Handles one line from stdin; its responses follow now or later.

        Raises: `ReaderGone` when the client has closed stdout.
        """
        try:
            if isinstance(line, LineTooLong):
                text = f"Invalid Request: the line is longer than {stdio.MAX_LINE_BYTES} bytes"
                if line.no_memory:
                    text = "Invalid Request: not enough memory for a line of this length"
                raise ProtocolError(jsonrpc.INVALID_REQUEST, text)
            message = jsonrpc.parse(line)
        except ProtocolError as error:
            connection.writer.send_error(error)
        else:
            self.handle(message, connection, connection.writer)

    def handle(self, message: Message, connection: Connection, writer: MessageWriter) -> int:
        """Handles one message and returns how many responses it gets; they follow now or later."""
        if isinstance(message, Request):
            self._respond(message, connection, writer)
            return 1
        if isinstance(message, Batch):
            return self._handle_batch(message, connection, writer)
        if isinstance(message, Response):
            self.queue.parked.answer(message, connection)
        else:
            self._notified(message, connection)
        return 0

    def _handle_batch(self, batch: Batch, connection: Connection, writer: MessageWriter) -> int:
        """Handles the messages of a batch one by one; each response is a line of its own."""
        if connection.settled_version != versions.BATCHES or not batch.items:
            writer.send_error(ProtocolError(jsonrpc.INVALID_REQUEST, "Invalid Request: expected a JSON object"))
            return 1
        n_responses = 0
        for item in batch.items:
            try:
                message = jsonrpc.message_of(item)
                if isinstance(message, Request) and message.method == "initialize":
                    text = "Invalid Request: initialize cannot be part of a batch"
                    raise ProtocolError(jsonrpc.INVALID_REQUEST, text, request_id=message.id)
            except ProtocolError as error:
                writer.send_error(error)
                n_responses += 1
            else:
                n_responses += self.handle(message, connection, writer)
        return n_responses

    def budget_of(self, owner: int) -> ByteBudget:
        """The budget for the messages of an owner, from their first byte to the end of the call."""
        return self._budgets[owner]

    def forget(self, connection: Connection) -> None:
        """Cancels all requests of a client that has disconnected."""
        connection.ended = True
        self._cancel_calls(connection)
        if self._resource_methods is not None:
            self._resource_methods.subscriptions.forget(connection)
        self._tasks.forget(connection)

    def _cancel_calls(self, connection: Connection) -> None:
        for call in self.queue.cancel_all(connection):
            self._end_cancelled(call)

    def end_questions(self, connection: Connection) -> None:
        """Ends the open questions of a client whose input has ended: no answer can come."""
        for call in self.queue.parked.end(connection):
            self.fail(call, INPUT_ENDED)

    def _notified(self, notification: Notification, connection: Connection) -> None:
        if notification.method == "notifications/cancelled" and "requestId" in notification.params:
            request_id = notification.params["requestId"]
            call = self.queue.cancel(request_id, connection)
            if call is not None:
                self._end_cancelled(call)
                return
            self._tasks.cancel_wait(request_id, connection)
            if self._resource_methods is not None:
                self._resource_methods.subscriptions.cancel(request_id, connection)

    def _end_cancelled(self, call: Call) -> None:
        call.context.writer.skip_response()
        self.hooks.on_call_end(call, "cancelled")

    def _respond(self, request: Request, connection: Connection, writer: MessageWriter) -> None:
        try:
            context = context_of(request, connection, writer, may_ask=self.settings.ask == "auto")
            result = self._method(request.method, context.revision)(request, context)
        except ProtocolError as error:
            error.request_id = request.id
            writer.send_error(error)
            return
        except ReaderGone:
            raise
        except BaseException:  # also SystemExit and the like from a library
            log_failure(request.method)
            writer.send_error(ProtocolError(jsonrpc.INTERNAL_ERROR, "Internal error", request_id=request.id))
            return
        if result is not None:
            writer.respond(jsonrpc.encode(jsonrpc.result_message(request.id, result)))
        if request.method in ("initialize", "tools/list"):
            self.start()

    def _method(self, name: str, revision: Revision) -> Method:
        era = self._modern_methods if revision.modern else self._legacy_methods
        method = self._methods.get(name) or era.get(name)
        if method is None and self._load_resources is not None and name.startswith(RESOURCE_METHODS):
            method = self._resources(self._load_resources).method(name, revision)
        method = method or self._tasks.method(name, revision)
        if method is None:
            raise ProtocolError(jsonrpc.METHOD_NOT_FOUND, f"Method not found: {name[:200]}")
        return method

    def start(self) -> None:
        """Queues the startup task, once. `server/discover` alone does not start it."""
        if self._startup_task is not None:
            self.queue.put(self._startup_task)
            self._startup_task = None

    def _initialize(self, request: Request, context: RequestContext) -> Json:
        if self._resource_methods is not None:
            self._resource_methods.subscriptions.forget_legacy(context.connection)
        return self._handshake.initialize(request, context)

    def _list_tools(self, request: Request, context: RequestContext) -> Json:
        with_task_support = self._tasks.is_listed(context.revision)
        listing = self._toolbox().listing(with_app_tools=context.has_apps, with_task_support=with_task_support)
        listed = page("tools", listing, request.params)
        cache = LIST_CACHE_OF_A_CLIENT if self.settings.apps else LIST_CACHE
        return finished(listed, context.revision, self._server_info, cache)

    def _call_tool(self, request: Request, context: RequestContext) -> Json | None:
        name, arguments = request.params.get("name"), arguments_of(request.params.get("arguments"))
        if not isinstance(name, str):
            raise ProtocolError(jsonrpc.INVALID_PARAMS, "Invalid params: name must be a string")
        if not isinstance(arguments, dict | Raw | None):
            raise ProtocolError(jsonrpc.INVALID_PARAMS, "Invalid params: arguments must be an object")
        toolbox = self._toolbox()
        tool = toolbox.find(name)
        if tool is None:
            raise ProtocolError(jsonrpc.INVALID_PARAMS, toolbox.why_unknown(name))
        arguments = {} if arguments is None else arguments
        early = tool.early(arguments)
        retry = retry_of(request.params) if context.revision.modern else None
        policy, timeout_s = tool.policy(early), tool.timeout_s(early)
        begun = self._tasks.begin(tool, request, context)
        if begun is None:
            self._enqueue(request, context, name, arguments, policy, timeout_s=timeout_s, retry=retry)
            return None
        task, created = begun
        self._enqueue(request, task.context(context), name, arguments, policy, timeout_s=timeout_s, task=task)
        return created

    def _enqueue(
        self,
        request: Request,
        context: RequestContext,
        name: str,
        arguments: Json | Raw,
        policy: SchedulingPolicy,
        *,
        timeout_s: float | None = None,
        request_handler: RequestHandler | None = None,
        retry: Retry | None = None,
        task: CallTask | None = None,
    ) -> None:
        limits_s = (self.settings.call_timeout_s if task is None else None, timeout_s)  # nobody waits for a task
        call = Call(
            request.id,
            name,
            arguments,
            context,
            timeout_s=min(filter(None, limits_s), default=0.0),
            policy=policy,
            request_handler=request_handler,
            retry=retry,
            budget=self.budget_of(context.connection.owner),
            on_phase_change=self._phase_changed,
            task=task,
        )
        try:
            if isinstance(arguments, Raw) or self.queue.is_busy:  # otherwise it is short and starts at once
                call.reserve(waiting_bytes(arguments))
            self.queue.put(call)
        except (QueueFull, OverBudget) as full:
            if call.claim_response():
                self.fail(call, str(full))

    def _toolbox(self) -> Toolbox:
        if self._loaded_toolbox is None:
            self._loaded_toolbox = self._load_toolbox()
        return self._loaded_toolbox

    def _resources(self, load_resources: Callable[[], ResourceRegistry]) -> ResourceMethods:
        if self._resource_methods is None:
            from mcp_protocol.resources.methods import ResourceMethods

            registry = load_resources()
            self._resource_methods = ResourceMethods(registry, self._server_info, self._enqueue)
            self.queue.put(Task("resources", lambda enter_phase: registry.prepare(), bypass_queue=True))
        return self._resource_methods

    @property
    def drained(self) -> bool:
        """Whether every request is answered, but for subscriptions."""
        return self.queue.drained and not self._tasks.is_waited_for

    def end_subscriptions(self) -> None:
        """Responds to all `subscriptions/listen` and `tasks/result` requests: the server shuts down."""
        if self._resource_methods is not None:
            self._resource_methods.end_subscriptions()
        self._tasks.end()

    def _phase_changed(self) -> None:
        self.hooks.wake()
        self._notify_changes()

    def _notify_changes(self) -> None:
        """Notifies subscribers of what the worker has changed."""
        try:
            if self._resource_methods is not None:
                self._resource_methods.subscriptions.notify_changes()
        except ReaderGone:
            self.hooks.wake()
        except BaseException:  # no call depends on it
            log_failure("notifying subscribers")

    def fail(self, call: Call, text: str, outcome: str = "error") -> None:
        """Responds to a claimed call with an error: `isError` for a tool, a JSON-RPC error for any other method."""
        self._runner.fail(call, text, outcome)
