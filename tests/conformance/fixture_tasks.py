"""The tools that the conformance suite follows as tasks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import msgspec

from mcp_protocol.calls.call import Call
from mcp_protocol.calls.deferred import Deferred
from mcp_protocol.jsonrpc import INTERNAL_ERROR, Json, ProtocolError
from mcp_protocol.tools.toolbox import Tool, text_block

SOON_S = 0.5


class Greeting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `greet`."""

    name: str


class Computation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `slow_compute`."""

    seconds: float = 0
    label: str = ""


class Deletion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arguments of `confirm_delete`."""

    filename: str


class NoArguments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No arguments."""


class TimedWork:
    """Work that takes so many seconds, or ends when it is cancelled; then `result` makes its report."""

    def __init__(self, seconds: float, result: Callable[[], Any]) -> None:
        self._result = result
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []
        self._has_ended = self._is_cancelled = False
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._timer.start()

    def status(self) -> str:
        """See `DeferredWork`."""
        return "done" if self._has_ended else "computing"

    def was_cancelled(self) -> bool:
        """See `DeferredWork`."""
        return self._is_cancelled

    def cancel(self) -> None:
        """See `DeferredWork`."""
        self._is_cancelled = not self._has_ended
        self._timer.cancel()
        self._end()

    def on_end(self, callback: Callable[[], None]) -> None:
        """See `DeferredWork`."""
        with self._lock:
            if not self._has_ended:
                self._callbacks.append(callback)
                return
        callback()

    def report(self) -> Any:
        """See `DeferredWork`."""
        return self._result()

    def _end(self) -> None:
        with self._lock:
            self._has_ended = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()


class IntendedFailure(Exception):
    """What `failing_job` raises."""


def _greet(arguments: Greeting, call: Call, services: Any) -> list[Json]:
    return [text_block(f"Hello, {arguments.name}!")]


def _slow_compute(arguments: Computation, call: Call, services: Any) -> list[Json]:
    content = [text_block(f"Computed {arguments.label}.")]
    if call.task is None:
        call.cancellation.wait(arguments.seconds)
        return content
    raise Deferred(TimedWork(arguments.seconds, lambda: content))


def _failing_job(arguments: NoArguments, call: Call, services: Any) -> list[Json]:
    def fail() -> list[Json]:
        raise IntendedFailure("This job always fails.")

    raise Deferred(TimedWork(SOON_S, fail))


def _protocol_error_job(arguments: NoArguments, call: Call, services: Any) -> list[Json]:
    raise ProtocolError(INTERNAL_ERROR, "This job always ends with an error of the protocol.")


def _confirm_delete(arguments: Deletion, call: Call, services: Any) -> list[Json]:
    """Without a question: no task asks for input."""
    return [text_block(f"{arguments.filename} was not deleted.")]


TASK_TOOLS = (
    Tool("greet", "greet", "Greets at once.", Greeting, _greet),
    Tool("slow_compute", "slow_compute", "Takes its time.", Computation, _slow_compute, task_support="optional"),
    Tool("failing_job", "failing_job", "Fails soon.", NoArguments, _failing_job, task_support="required"),
    Tool(
        "protocol_error_job",
        "protocol_error_job",
        "Ends with a JSON-RPC error.",
        NoArguments,
        _protocol_error_job,
        task_support="optional",
    ),
    Tool("confirm_delete", "confirm_delete", "Deletes nothing.", Deletion, _confirm_delete, task_support="optional"),
)
