"""One call in the queue: its arguments, deadline, cancellation and notifications.

This is all that a handler knows of the protocol.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from msgspec import Raw

from mcp_protocol.calls.answers import GivenAnswer, Retry
from mcp_protocol.calls.deferred import Follower
from mcp_protocol.calls.scheduling_policy import ORDINARY, SchedulingPolicy
from mcp_protocol.connection import RequestContext
from mcp_protocol.jsonrpc import PARSE_ERROR, Json, ProtocolError, notification_message
from mcp_protocol.raw_json import decoded, object_bytes
from mcp_protocol.versions import LOG_LEVELS, Revision
from sandbox.budget import Holding
from sandbox.cancellation import Cancellation

if TYPE_CHECKING:
    from sandbox.budget import ByteBudget

PHASE_STEP = 0.001
"""How much a phase adds to the progress value: progress must grow, and phases come before the first counted unit."""


class RequestHandler(Protocol):
    """Runs calls that are not `tools/call`."""

    def line(self, call: Call) -> bytes:
        """Runs the call on the worker thread and returns its response line; raises `ProtocolError`."""


class Call:
    """A request that a worker runs, usually `tools/call`, from its arrival to its response.

    Only the thread whose `claim_response` returns True writes the response: the worker when the handler is done, or
    the main thread when the deadline has passed or the server shuts down. Cancelling claims the response too, so that
    none is written.

    The call releases its reserved bytes and its arguments when it has ended, or earlier if it will not run.

    Arguments:
        request_id: the JSON-RPC id.
        tool: the tool's name, or the method of a call that is not `tools/call`.
        arguments: `Raw` arguments stay JSON until `decoded_arguments`.
        context: the client, the writer and the revision.
        timeout_s: seconds from the arrival to the deadline; 0 for none.
        policy: when the call may run.
        request_handler: runs the call where it is not `tools/call`.
        retry: the answers to the questions of an earlier request, unchecked.
        budget: where `reserve` takes bytes from; None for no limit.
        on_phase_change: called when the call enters or leaves a phase.
        task: follows a call that became a task; its handler hands over work that goes on without it. None for others.
    """

    def __init__(
        self,
        request_id: Any,
        tool: str,
        arguments: Json | Raw,
        context: RequestContext,
        *,
        timeout_s: float = 0.0,
        policy: SchedulingPolicy = ORDINARY,
        request_handler: RequestHandler | None = None,
        retry: Retry | None = None,
        budget: ByteBudget | None = None,
        on_phase_change: Callable[[], None] = lambda: None,
        task: Follower | None = None,
    ) -> None:
        self.task = task
        self.request_id = request_id
        self.tool = tool
        self.arguments: Json = {} if isinstance(arguments, Raw) else arguments
        self._raw = arguments if isinstance(arguments, Raw) else None
        self.context = context
        self.policy = policy
        self.request_handler = request_handler
        self.retry = retry
        self.answers: dict[str, GivenAnswer] = {}
        """The user's answers so far, by the names of the questions."""
        self.question_id: str | None = None
        """The id of the request that asks the user, while the call waits for the response."""
        self.arrived_s = time.monotonic()
        self.queued_s = self.arrived_s
        """When the call entered the queue: at its arrival, and again after an answer of the user."""
        self.deadline_s = self.arrived_s + timeout_s if timeout_s > 0 else None
        self.phase: str | None = None
        self.phase_since_s = self.arrived_s
        self._on_phase_change = on_phase_change
        self._progress = 0.0
        self._budget = budget
        self._holding: Holding | None = None
        self._on_release: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._is_claimed = False
        self.cancellation = Cancellation()
        """Set when the work should stop: the client cancelled, the response is claimed, or the server shuts down."""
        self.started = False
        """Whether a worker has taken the call; the queue sets it."""
        self.is_answered = False
        """Whether the response has been written, or never will be."""
        self.should_yield: Callable[[], bool] = lambda: False
        """Whether a call about jobs waits behind this one, so that a call that waits for a job should return now. The
        queue sets it."""

    @property
    def owner(self) -> int:
        """The index of the client's token."""
        return self.context.connection.owner

    @property
    def revision(self) -> Revision:
        """The MCP revision of the request."""
        return self.context.revision

    @property
    def is_claimed(self) -> bool:
        """Whether a thread has claimed the response."""
        return self._is_claimed

    def claim_response(self) -> bool:
        """Claims the right to respond; False when another thread has it."""
        with self._lock:
            first, self._is_claimed = not self._is_claimed, True
        self.cancellation.set()
        return first

    def decoded_arguments(self) -> Json:
        """The arguments as objects.

        Raises: `ProtocolError` for invalid JSON; `OverBudget`.
        """
        if self._raw is None:
            return self.arguments
        self.reserve(object_bytes(self._raw))
        try:
            arguments: Json = decoded(self._raw)
        except (ValueError, RecursionError) as error:
            text = "the JSON is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise ProtocolError(PARSE_ERROR, f"Parse error: {text}") from None
        self._raw = None
        if self.context.can_ask:  # the call may run again, with an answer
            self.arguments = arguments
        return arguments

    def reserve(self, n_bytes: int) -> None:
        """Takes bytes of the budget until the call ends; raises `OverBudget`."""
        if self._holding is None and self._budget is not None:
            self._holding = Holding(self._budget)
        if self._holding is not None:
            self._holding.add(n_bytes)

    def on_release(self, callback: Callable[[], None]) -> None:
        """Runs `callback` when the call has ended, however it ends."""
        self._on_release.append(callback)

    def mark_answered(self) -> None:
        """Notes that the response has been written, or never will be; a call that has not started is released."""
        self.is_answered = True
        if not self.started:
            self.release()

    def release(self) -> None:
        """Releases the arguments and the reserved bytes: the call does not run any more."""
        self._raw = None
        if self.request_handler is None:
            self.arguments = {}
        if self._holding is not None:
            self._holding.release()
        while self._on_release:
            self._on_release.pop()()

    def enter_phase(self, phase: str | None) -> None:
        """Starts a phase that no deadline can interrupt, such as "loading weights"; None ends it.

        During a phase the main thread responds when the deadline passes.
        """
        changed, self.phase, self.phase_since_s = phase != self.phase, phase, time.monotonic()
        if phase is not None:
            self.progress(self._progress + PHASE_STEP, None, phase)
            self.log("info", phase)
        if changed:
            self._on_phase_change()

    @property
    def wants_progress(self) -> bool:
        """Whether the client gave a token for progress notifications."""
        return self.context.progress_token is not None

    def progress(self, progress: float, total: float | None, message: str | None = None) -> None:
        """Sends a progress notification if the client wants them and `progress` has grown."""
        if not self.wants_progress or self._is_claimed or progress <= self._progress:
            return
        self._progress = progress
        params: Json = {"progressToken": self.context.progress_token, "progress": progress}
        if total is not None:
            params["total"] = total
        if message is not None and self.revision.progress_messages:
            params["message"] = message
        self.context.writer.send(notification_message("notifications/progress", params))

    def log(self, level: str, text: str) -> None:
        """Sends a log message if the client wants messages of this level."""
        threshold = self.context.log_level
        if threshold is None or self._is_claimed or LOG_LEVELS.index(level) < LOG_LEVELS.index(threshold):
            return
        params = {"level": level, "logger": self.tool, "data": text}
        self.context.writer.send(notification_message("notifications/message", params))


class Hooks(msgspec.Struct, frozen=True):
    """Functions that the server calls from any thread.

    Arguments:
        wake: makes the main loop check deadlines and stdout again.
        on_item_end: called by a worker after each call and task.
        on_call_end: called when a call has ended, with its outcome: ok, error, timeout, cancelled or stopped.
    """

    wake: Callable[[], None] = lambda: None
    on_item_end: Callable[[], None] = lambda: None
    on_call_end: Callable[[Call, str], None] = lambda call, outcome: None
