"""Where the model is, and from where it may go where: one table of transitions, one status to read."""

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
    """The engine's state with what is known of the model.

    The status is one immutable object that is replaced as a whole, so any thread may read it; an engine sees to it that
    only one moves at a time. What a load found out (data type, context length) stays known after a release.
    """

    def __init__(self, status: EngineStatus) -> None:
        self._status = status

    @property
    def status(self) -> EngineStatus:
        """What is known now."""
        return self._status

    @property
    def state(self) -> EngineState:
        """Where the model is now."""
        return self._status.state

    def touch(self) -> None:
        """Notes that the model was used just now."""
        self._status = dataclasses.replace(self._status, last_used_s=time.monotonic())

    def note(self, **facts: Any) -> None:
        """Records what was found out without a change of state."""
        self._status = dataclasses.replace(self._status, **facts)

    def move(self, state: EngineState, *, error: str | None = None, **facts: Any) -> None:
        """Goes to `state`, records what was found out on the way, and forgets the last error unless one is given.

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
