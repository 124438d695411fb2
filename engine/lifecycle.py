"""The engine's state: one table of transitions, and the status."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

from engine.interface import EngineState, EngineStatus

TRANSITIONS: Mapping[EngineState, frozenset[EngineState]] = {
    EngineState.UNLOADED: frozenset({EngineState.LOADING}),
    EngineState.LOADING: frozenset({EngineState.READY, EngineState.FAILED}),
    EngineState.READY: frozenset({EngineState.OFFLOADED, EngineState.UNLOADED, EngineState.FAILED}),
    EngineState.OFFLOADED: frozenset({EngineState.READY, EngineState.UNLOADED, EngineState.FAILED}),
    EngineState.FAILED: frozenset({EngineState.LOADING, EngineState.UNLOADED}),
}


class Lifecycle:
    """The engine's state and the facts about its model.

    The status is an immutable object that is replaced as a whole, so any thread may read it; the engine ensures that
    one thread at a time changes it. Facts from a load (data type, context length) stay known after a release.
    """

    def __init__(self, status: EngineStatus) -> None:
        self._status = status

    @property
    def status(self) -> EngineStatus:
        """The current status."""
        return self._status

    @property
    def state(self) -> EngineState:
        """The current state."""
        return self._status.state

    def touch(self) -> None:
        """Sets the time of the last use to now."""
        self._status = dataclasses.replace(self._status, last_used_s=time.monotonic())

    def note(self, **facts: Any) -> None:
        """Records facts without a change of state."""
        self._status = dataclasses.replace(self._status, **facts)

    def move(self, state: EngineState, *, error: str | None = None, **facts: Any) -> None:
        """Changes the state, records facts, and replaces the last error.

        Becoming ready counts as a use.

        Raises: `RuntimeError` for a transition that the table does not have.
        """
        if state not in TRANSITIONS[self.state]:
            raise RuntimeError(f"The engine cannot go from {self.state} to {state}.")
        self._status = dataclasses.replace(
            self._status, state=state, error=error, last_used_s=self._last_used_s(state), **facts
        )

    def _last_used_s(self, state: EngineState) -> float | None:
        if state is EngineState.READY:
            return time.monotonic()
        return self._status.last_used_s if state is EngineState.OFFLOADED else None
