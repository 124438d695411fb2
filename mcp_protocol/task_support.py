"""Whether the server has tasks; what handles them is loaded with the first call of a tool that may become one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mcp_protocol.connection import Connection, Method, RequestContext
from mcp_protocol.jsonrpc import Json, Request
from mcp_protocol.tools.toolbox import Tool
from mcp_protocol.versions import Revision

if TYPE_CHECKING:
    from mcp_protocol.tasks.call_task import CallTask
    from mcp_protocol.tasks.methods import TaskMethods


class TaskSupport:
    """The tasks of a server, if it has any.

    Arguments:
        ttl_s: how long a task is kept after its end; None for no tasks.
        n_owners: how many tokens there are.
        server_info: the `serverInfo` of results.
        cancel_calls: cancels the unfinished calls of a connection.
        wake: called when a task has ended.
    """

    def __init__(
        self,
        ttl_s: float | None,
        n_owners: int,
        server_info: Json,
        cancel_calls: Callable[[Connection], None],
        wake: Callable[[], None],
    ) -> None:
        self._ttl_s = ttl_s
        self._n_owners = n_owners
        self._server_info = server_info
        self._cancel_calls = cancel_calls
        self._wake = wake
        self._methods: TaskMethods | None = None

    def is_listed(self, revision: Revision) -> bool:
        """Whether `tools/list` says which tools may become tasks."""
        return self._ttl_s is not None and revision.tasks

    def method(self, name: str, revision: Revision) -> Method | None:
        """The method with this name in this revision."""
        if self._ttl_s is None or not name.startswith("tasks/"):
            return None
        return self._loaded(self._ttl_s).method(name, revision)

    def begin(self, tool: Tool, request: Request, context: RequestContext) -> tuple[CallTask, Json] | None:
        """The task that the call of a tool becomes, and the response to it; None for a call as any other.

        Raises: `ProtocolError`; see `TaskMethods.begin`.
        """
        if self._ttl_s is None or not (tool.task_support or context.revision.tasks):
            return None
        methods = self._loaded(self._ttl_s)
        task = methods.begin(tool, request, context)
        return None if task is None else (task, methods.created(task, context.revision))

    @property
    def is_waited_for(self) -> bool:
        """Whether a request waits for the result of a task."""
        return self._methods is not None and self._methods.is_waited_for

    def cancel_wait(self, request_id: Any, connection: Connection) -> None:
        """Ends a client's request for the result of a task, which goes on."""
        if self._methods is not None:
            self._methods.cancel_wait(request_id, connection)

    def forget(self, connection: Connection) -> None:
        """Ends the open requests of a client that has disconnected; its tasks go on."""
        if self._methods is not None:
            self._methods.forget(connection)

    def end(self) -> None:
        """Responds to all open requests: the server shuts down."""
        if self._methods is not None:
            self._methods.end()

    def _loaded(self, ttl_s: float) -> TaskMethods:
        if self._methods is None:
            from mcp_protocol.tasks.methods import TaskMethods
            from mcp_protocol.tasks.tasks import Tasks

            tasks = Tasks(ttl_s, self._n_owners, self._wake)
            self._methods = TaskMethods(tasks, self._server_info, self._cancel_calls)
        return self._methods
