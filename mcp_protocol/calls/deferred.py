"""What the handler of a task raises once its work goes on without a worker thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol


class DeferredWork(Protocol):
    """Work that goes on after the handler of its call has ended. Any thread may call any method."""

    def status(self) -> str:
        """What it does now, in a few words."""

    def was_cancelled(self) -> bool:
        """Whether it has ended because it was cancelled."""

    def cancel(self) -> None:
        """Stops it; it ends soon afterwards."""

    def on_end(self, callback: Callable[[], None]) -> None:
        """Calls `callback`, which returns at once, when the work ends, or now if it has ended."""

    def report(self) -> Any:
        """What the handler would have returned at the end of the work; raises what it would have raised."""


class Follower(Protocol):
    """Takes over the work of a call that its client follows as a task."""

    def defer(self, work: DeferredWork, finish: Callable[[], None]) -> None:
        """Has `finish` write the response to the call, in any thread, once the work has ended."""


class Deferred(Exception):
    """Ends the handler of a task: its result is the report of `work`, once that has ended."""

    def __init__(self, work: DeferredWork) -> None:
        super().__init__("the work goes on as a task")
        self.work = work
