"""One tool call that its client follows as a task.

working → completed, failed   the response to the call
   ↓
cancelled                     by the client, or because the work was cancelled
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from enum import StrEnum

import msgspec
from msgspec import Raw

from mcp_protocol.calls.deferred import DeferredWork
from mcp_protocol.connection import Connection, MessageWriter, RequestContext
from mcp_protocol.jsonrpc import encode
from mcp_protocol.tools.toolbox import error_result

CANCELLED_TEXT = "The task was cancelled before it was done."


class TaskStatus(StrEnum):
    """The status of a task, as MCP names it."""

    WORKING = "working"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class _Response(msgspec.Struct):
    """The response to the call; the member that it does not have is empty."""

    result: Raw = Raw(b"")
    error: Raw = Raw(b"")


class _ToolResult(msgspec.Struct):
    """The part of a result that says whether the tool failed."""

    is_error: bool = msgspec.field(default=False, name="isError")


class CallTask(MessageWriter):
    """A task: it takes the response to its call, and keeps it. Any thread may call any method.

    The call has a connection of its own: it outlives the client's.

    Arguments:
        owner: the index of the client's token.
        ttl_s: how many seconds the task is kept after its end.
        on_end: called when the response is there.

    Attributes: `result` or `error`, the response as JSON, and `is_error`, whether the tool has failed.
    """

    def __init__(self, owner: int, ttl_s: float, on_end: Callable[[], None] = lambda: None) -> None:
        self.id = f"task_{secrets.token_hex(16)}"
        self.owner = owner
        self.connection = Connection(owner=owner)
        self.status = TaskStatus.WORKING
        self.result: Raw | None = None
        self.error: Raw | None = None
        self.is_error = False
        self.created_s = self.updated_s = time.time()
        self._ttl_s = ttl_s
        self._on_end = on_end
        self._began_s = time.monotonic()
        self._ended_s: float | None = None
        self._work: DeferredWork | None = None
        self._last_message: str | None = None
        self._lock = threading.Lock()
        self._waiting: list[Callable[[], None]] = []

    def context(self, context: RequestContext) -> RequestContext:
        """The context of the call: its notifications would follow the response to its request."""
        return msgspec.structs.replace(
            context, connection=self.connection, writer=self, progress_token=None, log_level=None, can_ask=False
        )

    @property
    def is_over(self) -> bool:
        """Whether the response is there."""
        return self._ended_s is not None

    @property
    def n_bytes(self) -> int:
        """The size of the response."""
        return sum(len(raw) for raw in (self.result, self.error) if raw is not None)

    @property
    def has_expired(self) -> bool:
        """Whether it ended longer than `ttl_s` ago."""
        return self._ended_s is not None and time.monotonic() - self._ended_s > self._ttl_s

    @property
    def ttl_ms(self) -> int:
        """For how long it is kept at least, from its creation on; grows until its end."""
        until_s = time.monotonic() if self._ended_s is None else self._ended_s
        return int((until_s - self._began_s + self._ttl_s) * 1e3)

    @property
    def message(self) -> str | None:
        """What it does now, None if that is not known."""
        work = self._work
        return self._last_message if work is None else work.status()

    def defer(self, work: DeferredWork, finish: Callable[[], None]) -> None:
        """Takes the work that goes on after the handler; `finish` writes the response at its end."""
        with self._lock:
            self._work = work
            is_cancelled = self.status is TaskStatus.CANCELLED
        if is_cancelled:
            work.cancel()
        work.on_end(lambda: _in_background(finish))

    def cancel(self) -> bool:
        """Cancels the task for good; False if it was over. A call in the queue is the caller's to cancel."""
        with self._lock:
            if self.status is not TaskStatus.WORKING:
                return False
            self.status, self.updated_s = TaskStatus.CANCELLED, time.time()
            work = self._work
        if work is not None:
            work.cancel()
        return True

    def when_over(self, callback: Callable[[], None]) -> None:
        """Calls `callback` when the response is there."""
        with self._lock:
            if self._ended_s is None:
                self._waiting.append(callback)
                return
        callback()

    def respond(self, line: bytes) -> None:
        """Takes the response to the call."""
        response = msgspec.json.decode(line, type=_Response)
        is_error = bool(response.error) or msgspec.json.decode(response.result, type=_ToolResult).is_error
        work = self._work
        was_cancelled = work is not None and work.was_cancelled()
        last_message = None if work is None else work.status()
        with self._lock:
            if self._ended_s is not None:
                return
            self._last_message, self._work = last_message, None
            self.is_error = is_error
            self.result = response.result.copy() if response.result else None
            self.error = response.error.copy() if response.error else None
            if was_cancelled:
                self.status = TaskStatus.CANCELLED
            elif self.status is TaskStatus.WORKING:
                self.status = TaskStatus.FAILED if is_error else TaskStatus.COMPLETED
            self.updated_s, self._ended_s = time.time(), time.monotonic()
            waiting, self._waiting = self._waiting, []
        for callback in waiting:
            callback()
        self._on_end()

    def skip_response(self) -> None:
        """Ends a task whose call was cancelled before it handed over any work."""
        self.cancel()
        self.respond(encode({"result": error_result(CANCELLED_TEXT)}))


_one_at_a_time = threading.Lock()


def _in_background(finish: Callable[[], None]) -> None:
    """Runs `finish` in a thread: a report may read files and make a preview."""

    def run() -> None:
        with _one_at_a_time:
            finish()

    try:
        threading.Thread(target=run, name="task result", daemon=True).start()
    except RuntimeError:  # no more threads: better late for others than never for this one
        finish()
