"""Tool calls as tasks, and the methods about tasks; loaded with the first of them.

Two forms: the tasks of revision 2025-11-25, and the extension of 2026-07-28.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw

from mcp_protocol.connection import Connection, MessageWriter, Method, RequestContext
from mcp_protocol.jsonrpc import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    Json,
    ProtocolError,
    Request,
    encode,
    result_message,
)
from mcp_protocol.pages import page
from mcp_protocol.tasks.call_task import CallTask, TaskStatus
from mcp_protocol.tasks.tasks import Tasks
from mcp_protocol.tools.toolbox import Tool
from mcp_protocol.versions import MISSING_CAPABILITY, TASKS, Revision, declares, finished, meta_of, wants_task

POLL_MS = 1_000
"""How often a client should ask about a task."""
MAX_WAITS = 100
"""Open `tasks/result` requests for all clients of a token."""
RESULT_TYPE = "resultType"
META_RELATED_TASK = "io.modelcontextprotocol/related-task"
TOO_MANY = (
    "Too many tasks are kept, or their results take too much memory. Call the tool without a task, or try again when "
    "older tasks have expired."
)
STOPPED = "The server is shutting down: the task ends with it."


class _Wait(msgspec.Struct, frozen=True, eq=False):
    """An open `tasks/result` request."""

    request_id: Any
    connection: Connection
    writer: MessageWriter


class TaskMethods:
    """Begins tasks and handles the methods about them; any thread may call any method.

    Arguments:
        tasks: those that are kept.
        server_info: the `serverInfo` of results.
        cancel_calls: cancels the unfinished calls of a connection.
    """

    def __init__(self, tasks: Tasks, server_info: Json, cancel_calls: Callable[[Connection], None]) -> None:
        self._tasks = tasks
        self._server_info = server_info
        self._cancel_calls = cancel_calls
        self._waits: list[_Wait] = []
        self._lock = threading.Lock()
        self._legacy_methods: dict[str, Method] = {
            "tasks/get": lambda request, context: legacy_form(self._task(request, context)),
            "tasks/result": self._wait_for_result,
            "tasks/list": self._list,
            "tasks/cancel": self._cancel_legacy,
        }
        self._modern_methods: dict[str, Method] = {
            "tasks/get": self._get,
            "tasks/update": self._update,
            "tasks/cancel": self._cancel,
        }

    def method(self, name: str, revision: Revision) -> Method | None:
        """The method with this name in this revision."""
        if revision.tasks:
            return self._legacy_methods.get(name)
        return self._modern_methods.get(name) if revision.modern else None

    def begin(self, tool: Tool, request: Request, context: RequestContext) -> CallTask | None:
        """The task that this call of a tool becomes; None for a call that is answered by its result.

        Raises: `ProtocolError` where the tool does not fit the client's wish, or there are too many tasks.
        """
        revision, wanted = context.revision, request.params.get("task")
        if not wants_task(request.params, revision):
            if tool.task_support == "required":
                raise _missing_extension() if revision.modern else _not_as_asked(tool, "only works as a task")
            return None
        if tool.task_support is None:
            if revision.modern:
                return None
            raise _not_as_asked(tool, "does not work as a task")
        if not revision.modern:
            _check_wish(wanted)
        task = self._tasks.begin(context.connection.owner)
        if task is None and not (revision.modern and tool.task_support == "optional"):
            raise ProtocolError(INTERNAL_ERROR, TOO_MANY)
        return task

    def created(self, task: CallTask, revision: Revision) -> Json:
        """The response to the call that became a task."""
        if revision.modern:
            return finished({"resultType": "task", **modern_form(task)}, revision, self._server_info)
        return {"task": legacy_form(task)}

    @property
    def is_waited_for(self) -> bool:
        """Whether a `tasks/result` request is open."""
        return bool(self._waits)

    def cancel_wait(self, request_id: Any, connection: Connection) -> None:
        """Ends a client's `tasks/result` request without a response; an unknown id is ignored. The task goes on."""
        for wait in list(self._waits):
            same_id = type(wait.request_id) is type(request_id) and wait.request_id == request_id
            if same_id and wait.connection is connection and self._claim(wait):
                wait.writer.skip_response()

    def forget(self, connection: Connection) -> None:
        """Ends the open requests of a client that has disconnected; its tasks go on."""
        for wait in list(self._waits):
            if wait.connection is connection and self._claim(wait):
                wait.writer.skip_response()

    def end(self) -> None:
        """Responds to all open requests: the server shuts down."""
        for wait in list(self._waits):
            if self._claim(wait):
                wait.writer.send_error(ProtocolError(INTERNAL_ERROR, STOPPED, request_id=wait.request_id))

    def _task(self, request: Request, context: RequestContext) -> CallTask:
        """The task that a request names; raises `ProtocolError`."""
        task_id = request.params.get("taskId")
        if not isinstance(task_id, str):
            raise ProtocolError(INVALID_PARAMS, "Invalid params: taskId must be a string")
        task = self._tasks.find(task_id, context.connection.owner)
        if task is None:
            text = "Invalid params: there is no such task. It may have expired; tasks end with the server's process."
            raise ProtocolError(INVALID_PARAMS, text)
        return task

    def _list(self, request: Request, context: RequestContext) -> Json:
        return page("tasks", [legacy_form(task) for task in self._tasks.of(context.connection.owner)], request.params)

    def _cancel_legacy(self, request: Request, context: RequestContext) -> Json:
        task = self._task(request, context)
        if not self._cancelled(task):
            raise ProtocolError(INVALID_PARAMS, f"Invalid params: the task is over already ({task.status})")
        return legacy_form(task)

    def _wait_for_result(self, request: Request, context: RequestContext) -> None:
        task = self._task(request, context)
        wait = _Wait(request.id, context.connection, context.writer)
        with self._lock:
            if sum(other.connection.owner == task.owner for other in self._waits) >= MAX_WAITS:
                text = f"At most {MAX_WAITS} tasks/result requests may wait for all clients of a token; use tasks/get"
                raise ProtocolError(INTERNAL_ERROR, text)
            self._waits.append(wait)
        task.when_over(lambda: self._respond(wait, task))

    def _respond(self, wait: _Wait, task: CallTask) -> None:
        if self._claim(wait):
            wait.writer.respond(_legacy_response(wait.request_id, task))

    def _claim(self, wait: _Wait) -> bool:
        """Takes the right to respond to an open request; False when another thread has it."""
        with self._lock:
            if wait not in self._waits:
                return False
            self._waits.remove(wait)
            return True

    def _get(self, request: Request, context: RequestContext) -> Json:
        _check_extension(request)
        return self._finished(modern_form(self._task(request, context), with_result=True), context)

    def _update(self, request: Request, context: RequestContext) -> Json:
        """Acknowledges input that no task has asked for, which is ignored."""
        _check_extension(request)
        self._task(request, context)
        if not isinstance(request.params.get("inputResponses"), dict):
            raise ProtocolError(INVALID_PARAMS, "Invalid params: inputResponses must be an object")
        return self._finished({}, context)

    def _cancel(self, request: Request, context: RequestContext) -> Json:
        _check_extension(request)
        self._cancelled(self._task(request, context))
        return self._finished({}, context)

    def _finished(self, result: Json, context: RequestContext) -> Json:
        return finished(result, context.revision, self._server_info)

    def _cancelled(self, task: CallTask) -> bool:
        """Cancels a task and its call; False if it was over."""
        if not task.cancel():
            return False
        self._cancel_calls(task.connection)
        return True


def legacy_form(task: CallTask) -> Json:
    """A task as revision 2025-11-25 shows it: one whose tool has failed is failed."""
    return {**_common(task, task.status), "ttl": task.ttl_ms, "pollInterval": POLL_MS}


def modern_form(task: CallTask, *, with_result: bool = False) -> Json:
    """A task as the extension shows it: one is failed only where there is no result, and errors of tools are results.

    `with_result` adds the result or error of a task that is over.
    """
    status = task.status
    if status is TaskStatus.FAILED and task.error is None:
        status = TaskStatus.COMPLETED
    form = {**_common(task, status), "ttlMs": task.ttl_ms, "pollIntervalMs": POLL_MS}
    if with_result and status is TaskStatus.COMPLETED:
        form["result"] = _modern_result(task.result)
    if with_result and status is TaskStatus.FAILED:
        form["error"] = task.error
    return form


def _common(task: CallTask, status: TaskStatus) -> Json:
    message = task.message
    return {
        "taskId": task.id,
        "status": status,
        **({} if message is None else {"statusMessage": message}),
        "createdAt": _utc(task.created_s),
        "lastUpdatedAt": _utc(task.updated_s),
    }


def _utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03}Z"


def _modern_result(result: Raw | None) -> Raw | dict[str, Raw]:
    """The result of a call, which may have come in the form of a legacy revision."""
    assert result is not None
    members = msgspec.json.decode(result, type=dict[str, Raw])
    return result if RESULT_TYPE in members else {RESULT_TYPE: Raw(b'"complete"'), **members}


def _legacy_response(request_id: Any, task: CallTask) -> bytes:
    """The response to `tasks/result`: that of the call, which may have been a modern one, with the id of the task."""
    if task.result is None:
        return encode({"jsonrpc": "2.0", "id": request_id, "error": task.error})
    result = msgspec.json.decode(task.result, type=dict[str, Raw])
    result.pop(RESULT_TYPE, None)
    meta = msgspec.json.decode(result["_meta"]) if "_meta" in result else {}
    related = {**meta, META_RELATED_TASK: {"taskId": task.id}}
    return encode(result_message(request_id, {**result, "_meta": related}))


def _check_extension(request: Request) -> None:
    if not declares(meta_of(request.params), TASKS):
        raise _missing_extension()


def _check_wish(wanted: Any) -> None:
    """Raises `ProtocolError` unless `task` is as the specification says. A task is kept longer than its `ttl` if the
    client asks for less: its response says how long."""
    ttl = wanted.get("ttl") if isinstance(wanted, dict) else None
    if not isinstance(wanted, dict) or isinstance(ttl, bool) or not isinstance(ttl, int | float | None):
        raise ProtocolError(INVALID_PARAMS, "Invalid params: task must be an object, its ttl a number of milliseconds")
    if ttl is not None and ttl < 0:
        raise ProtocolError(INVALID_PARAMS, "Invalid params: task.ttl must not be negative")


def _missing_extension() -> ProtocolError:
    data: Json = {"requiredCapabilities": {"extensions": {TASKS: {}}}}
    return ProtocolError(MISSING_CAPABILITY, f"Missing required client capability: the extension {TASKS}", data)


def _not_as_asked(tool: Tool, problem: str) -> ProtocolError:
    return ProtocolError(METHOD_NOT_FOUND, f"Method not found: {tool.name} {problem}")
