"""One tool call on its way: who asked, until when, and how to tell the caller about its progress.

This is all that a handler sees of the protocol.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Raw

from mcp_protocol.connection import NOWHERE, Connection, Outlet
from mcp_protocol.jsonrpc import PARSE_ERROR, Json, ProtocolError, notification_message
from mcp_protocol.raw_json import decoded, object_bytes
from mcp_protocol.turn import ORDINARY, Turn
from mcp_protocol.versions import LOG_LEVELS, Revision
from sandbox.budget import Holding

if TYPE_CHECKING:
    from sandbox.budget import ByteBudget

Send = Callable[[Json], None]

PHASE_STEP = 0.001
"""How far a phase moves the progress figure: phases come before the first counted unit, and progress must grow."""


class Answerer(Protocol):
    """Does the work of calls that are no tool's."""

    def line(self, call: Call) -> bytes:
        """Does the work, on the worker thread, and returns the answer.

        Raises: `ProtocolError`.
        """


class Call:
    """A request for the worker, most often a `tools/call`, from its arrival to its answer.

    Whoever `claim`s a call answers it: the worker when the handler is done, or the main thread when the deadline
    passed or the server ends. A cancelled call is claimed by the cancellation, so that nothing answers it. The answer
    goes to `outlet`, and so does what is sent before it unless `send` is given.

    Arguments that came as `Raw` are objects only from `open` on. What it takes of `budget`, and its arguments, go with
    the end of the call, or earlier where it will not be run.
    """

    def __init__(
        self,
        request_id: Any,
        tool: str,
        arguments: Json | Raw,
        revision: Revision,
        *,
        progress_token: Any = None,
        log_level: str | None = None,
        timeout_s: float = 0.0,
        connection: Connection | None = None,
        outlet: Outlet = NOWHERE,
        send: Send | None = None,
        wake: Callable[[], None] = lambda: None,
        on_phase: Callable[[], None] = lambda: None,
        answerer: Answerer | None = None,
        turn: Turn = ORDINARY,
        budget: ByteBudget | None = None,
    ) -> None:
        self.answerer = answerer
        self.turn = turn
        self.hurried: Callable[[], bool] = lambda: False
        """Whether a call about jobs waits behind this one: whoever only waits for a job answers now. The queue sets
        it."""
        self.connection = connection
        self.outlet = outlet
        self.request_id = request_id
        self.tool = tool
        self.arguments: Json = {} if isinstance(arguments, Raw) else arguments
        self._raw = arguments if isinstance(arguments, Raw) else None
        self.begun = False
        """Whether a worker has taken it; the queue sets it."""
        self.revision = revision
        self.arrived_s = time.monotonic()
        self.deadline_s = self.arrived_s + timeout_s if timeout_s > 0 else None
        self.phase: str | None = None
        self.phase_since_s = self.arrived_s
        self._progress_token = progress_token
        self._progress = 0.0
        self._log_level = log_level
        self._budget = budget
        self._holding: Holding | None = None
        self._at_end: list[Callable[[], None]] = []
        self._send = outlet.send if send is None else send
        self._wake = wake
        self._on_phase = on_phase
        self._lock = threading.Lock()
        self._claimed = False
        self._stopped = False
        self.settled = False
        """Whether the answer has been written, or there will never be one."""

    @property
    def owner(self) -> int:
        """The number of its client's token."""
        return 0 if self.connection is None else self.connection.owner

    @property
    def claimed(self) -> bool:
        """Whether somebody has taken the right to answer."""
        return self._claimed

    def claim(self) -> bool:
        """Takes the right to answer; False when somebody else has it."""
        with self._lock:
            first, self._claimed = not self._claimed, True
            return first

    def open(self) -> Json:
        """The arguments as objects; long ones are made of their bytes now, and are the caller's to keep.

        Raises: `ProtocolError` for what is no JSON after all; `OverBudget`.
        """
        if self._raw is None:
            return self.arguments
        self.hold(object_bytes(self._raw))
        try:
            arguments: Json = decoded(self._raw)
        except (ValueError, RecursionError) as error:
            text = "the JSON is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise ProtocolError(PARSE_ERROR, f"Parse error: {text}") from None
        self._raw = None
        return arguments

    def hold(self, n_bytes: int) -> None:
        """Takes so many bytes of the budget until the call's end.

        Raises: `OverBudget`.
        """
        if self._holding is None and self._budget is not None:
            self._holding = Holding(self._budget)
        if self._holding is not None:
            self._holding.add(n_bytes)

    def at_end(self, release: Callable[[], None]) -> None:
        """Has something done when the call has ended, however it ends."""
        self._at_end.append(release)

    def settle(self) -> None:
        """Notes that its answer has been written, or will never be; a call that does not run lets go of everything."""
        self.settled = True
        if not self.begun:
            self.end()

    def end(self) -> None:
        """Lets go of everything that it holds: it does not run any more."""
        self._raw = None
        if self.answerer is None:
            self.arguments = {}
        if self._holding is not None:
            self._holding.release()
        while self._at_end:
            self._at_end.pop()()

    def stop(self) -> None:
        """Asks the handler to end soon."""
        self._stopped = True

    def cancelled(self) -> bool:
        """Whether the work should stop: the caller cancelled, was answered already, or the server ends."""
        return self._stopped or self._claimed

    def limit(self, timeout_s: float) -> None:
        """Draws the deadline nearer, to `timeout_s` seconds after the call's arrival."""
        deadline_s = self.arrived_s + timeout_s
        self.deadline_s = deadline_s if self.deadline_s is None else min(self.deadline_s, deadline_s)
        self._wake()

    def enter_phase(self, phase: str | None) -> None:
        """Says that the call waits for something no deadline can interrupt (a load), or that it no longer does.

        While a phase is set, the main thread answers at the deadline in the call's stead.
        """
        changed, self.phase, self.phase_since_s = phase != self.phase, phase, time.monotonic()
        if phase is not None:
            self._wake()
            self.progress(self._progress + PHASE_STEP, None, phase)
            self.log("info", phase)
        if changed:
            self._on_phase()

    @property
    def wants_progress(self) -> bool:
        """Whether the caller gave a token for progress notifications."""
        return self._progress_token is not None

    def progress(self, progress: float, total: float | None, message: str | None = None) -> None:
        """Tells the caller how far the work is; nothing is sent unless asked for, or when the figure did not grow."""
        if self._progress_token is None or self._claimed or progress <= self._progress:
            return
        self._progress = progress
        params: Json = {"progressToken": self._progress_token, "progress": progress}
        if total is not None:
            params["total"] = total
        if message is not None and self.revision.progress_messages:
            params["message"] = message
        self._send(notification_message("notifications/progress", params))

    def log(self, level: str, text: str) -> None:
        """Sends a log message to a client that asked for this level."""
        if self._log_level is None or self._claimed or not _reaches(level, self._log_level):
            return
        self._send(notification_message("notifications/message", {"level": level, "logger": self.tool, "data": text}))


Observe = Callable[[Call, str], None]
"""Is told of each call that has ended, and how: ok, error, timeout, cancelled or stopped. Any thread may call it."""


def _reaches(level: str, threshold: str) -> bool:
    return LOG_LEVELS.index(level) >= LOG_LEVELS.index(threshold)
