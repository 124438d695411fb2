"""Which models are in memory: who may use one, who waits, and which one gives way.

It knows engines by their status and their `load` only: how much memory a model needs, and how it gives way, is told.
"""

from __future__ import annotations

import contextlib
import enum
import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

from engine.errors import EngineUnavailable, GenerationCancelled, GenerationFailed
from engine.interface import Engine, EngineState, OnPhase
from engine.room import Room
from sandbox.cancellation import Cancellation

LOOK_S = 0.25
"""How often a call that waits looks at the memory: other programs free some, and tools release models."""
_LOADED = (EngineState.READY, EngineState.LOADING)


@dataclass(eq=False, slots=True)
class Wait:
    """What a call that needs a model wants, and what ends its waiting.

    Arguments:
        name: the model.
        on_phase: called in the thread that waits.
        cancellation: ends it with `GenerationCancelled`.
        deadline_s: `time.monotonic()` value that ends it with `GenerationFailed`; `None` for no limit.

    Attributes: `phase`, what was reported last; `is_admitted`, whether a load has served this call as well.
    """

    name: str
    on_phase: OnPhase
    cancellation: Cancellation = field(default_factory=Cancellation)
    deadline_s: float | None = None
    phase: str | None = None
    is_admitted: bool = False

    def report(self, phase: str) -> None:
        """Reports a phase once."""
        if phase != self.phase:
            self.phase = phase
            self.on_phase(phase)


class _Entry(enum.Enum):
    """How a call begins to use a model."""

    LOADS = enum.auto()
    """Its thread loads the model; no other loads or gives way meanwhile."""
    JOINS = enum.auto()
    """The model is loaded, or another thread loads it."""


class Residency:
    """Any thread may use it.

    A call that needs a model which is not in memory waits in one queue with all others of that kind. The first one has
    the models give way that were used longest ago, one after another, until its own fits; a model in use is waited for,
    and nobody begins to use it meanwhile. Then it loads its model, and all calls that wait for that model go on. So
    each load serves a call, and no call waits without end for a model that others keep busy.

    A thread that uses one model and needs another could wait for itself. So it waits for nobody: its model is loaded
    beside the others where none of them is idle.

    Arguments:
        engines: makes the engine of a model, or returns it.
        made: the engines made so far by the names of their models.
        room: the memory.
        max_loaded: how many models may be in memory, `None` for as many as fit.
        around_load: surrounds each load, in the thread that loads.
    """

    def __init__(
        self,
        engines: Callable[[str], Engine],
        made: Callable[[], Mapping[str, Engine]],
        room: Room,
        max_loaded: int | None = None,
        around_load: Callable[[Wait], contextlib.AbstractContextManager[object]] | None = None,
    ) -> None:
        self._around_load = around_load or contextlib.nullcontext
        self._engine = engines
        self._made = made
        self._room = room
        self._max_loaded = max_loaded
        self._changed = threading.Condition(threading.Lock())
        self._users: Counter[str] = Counter()
        self._uses = itertools.count(1)
        self._last_use: dict[str, int] = {}
        self._queue: deque[Wait] = deque()
        self._changer: Wait | None = None
        """The call that loads a model or has one give way; one at a time does."""
        self._loading: str | None = None
        self._leaving: str | None = None
        self._claimed: str | None = None
        """The model in use that the first of the queue waits for."""
        self._held = threading.local()
        self._is_closed = False

    @contextlib.contextmanager
    def in_use(self, wait: Wait) -> Iterator[float]:
        """Makes a model ready, where needed by having others give way; it stays inside the context.

        Yields the seconds that its load took, 0.0 where it was ready.

        Raises: `GenerationCancelled`, `GenerationFailed`, and the errors of `Engine.load`.
        """
        load_s = self._begin(wait)
        self._held.n = self._n_held + 1
        try:
            yield load_s
        finally:
            self._held.n = max(0, self._n_held - 1)
            self._leave(wait.name)

    @contextlib.contextmanager
    def unused(self, name: str) -> Iterator[bool]:
        """Whether no call uses a model; if so, none begins to use it inside the context, and none loads another."""
        with self._changed:
            if is_unused := not self._users[name] and self._changer is None:
                self._changer, self._leaving = Wait(name, lambda phase: None), name
        try:
            yield is_unused
        finally:
            with self._changed:
                if is_unused:
                    self._changer = self._leaving = None
                self._changed.notify_all()

    def n_users(self, name: str) -> int:
        """How many calls use a model or load it."""
        return self._users[name]

    def close(self) -> None:
        """Ends all waiting."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    @property
    def _n_held(self) -> int:
        return getattr(self._held, "n", 0)

    def _begin(self, wait: Wait) -> float:
        """Enters and loads, or joins the load of another thread."""
        engine = self._engine(wait.name)
        while self._enter(wait) is _Entry.JOINS:
            try:
                return engine.load(wait.on_phase)
            except BaseException as error:
                self._leave(wait.name)
                if not (
                    isinstance(error, EngineUnavailable) and error.lacks_memory and self._is_loaded_after_all(wait)
                ):
                    raise
        return self._load(engine, wait)

    def _is_loaded_after_all(self, wait: Wait) -> bool:
        """Whether the thread whose load failed for want of memory has made room and loaded the model."""
        with self._changed:
            while self._changer is not None and self._changer.name == wait.name:
                self._pause(wait)
        return self._is_loaded(wait.name)

    def _load(self, engine: Engine, wait: Wait) -> float:
        """Loads the model; when memory lacks, one that is not used gives way, and it is loaded once more."""
        try:
            with self._around_load(wait):
                self._stop_if_over(wait)
                try:
                    return engine.load(wait.on_phase)
                except EngineUnavailable as error:
                    if not error.lacks_memory or not self._an_idle_one_gives_way(wait):
                        raise
                return engine.load(wait.on_phase)
        except BaseException:
            self._leave(wait.name)
            raise
        finally:
            with self._changed:
                self._changer = self._loading = None
                if self._is_loaded(wait.name):
                    self._admit_others(wait.name)
                self._changed.notify_all()

    def _admit_others(self, name: str) -> None:
        """Counts all that wait for a model as its users, before another call has it give way."""
        for waiting in self._queue:
            if waiting.name == name and not waiting.is_admitted:
                waiting.is_admitted = True
                self._users[name] += 1

    def _an_idle_one_gives_way(self, wait: Wait) -> bool:
        with self._changed:
            idle = self._idle(self._others(wait.name))
            if not idle:
                return False
            self._loading, self._leaving = None, idle[0]
        self._give_way(idle[0], wait)
        with self._changed:
            self._loading = wait.name
        return True

    def _give_way(self, name: str, wait: Wait) -> None:
        try:
            self._room.give_way(name, wait.report)
        finally:
            with self._changed:
                self._leaving = None
                self._changed.notify_all()

    def _leave(self, name: str) -> None:
        with self._changed:
            self._users[name] -= 1
            self._last_use[name] = next(self._uses)
            self._changed.notify_all()

    def _enter(self, wait: Wait) -> _Entry:
        """Waits until this call may use the model or load it, and counts it as a user."""
        withdraw = wait.cancellation.on_set(self._wake)
        is_nested = self._n_held > 0
        wait.is_admitted = has_entered = False
        with self._changed:
            if not is_nested:
                self._queue.append(wait)
        try:
            while True:
                with self._changed:
                    found = self._try(wait, is_nested)
                    waits_for = self._waits_for(wait)
                    if found is None and (waits_for is None or waits_for == wait.phase):
                        self._pause(wait)
                    has_entered = isinstance(found, _Entry)
                if isinstance(found, _Entry):
                    return found
                if found is not None:
                    self._give_way_to(wait, found)
                elif waits_for is not None:
                    wait.report(waits_for)
        finally:
            withdraw()
            with self._changed:
                if not is_nested:
                    if self._queue[0] is wait:
                        self._claimed = None
                    self._queue.remove(wait)
                if wait.is_admitted and not has_entered:
                    self._users[wait.name] -= 1
                self._changed.notify_all()

    def _give_way_to(self, wait: Wait, victim: str) -> None:
        try:
            self._give_way(victim, wait)
        finally:
            with self._changed:
                self._changer = None

    def _try(self, wait: Wait, is_nested: bool) -> _Entry | str | None:
        """How the call begins; or the model that is to give way first; or `None`, when it has to wait."""
        if wait.is_admitted:
            return _Entry.JOINS
        self._stop_if_over(wait)
        name = wait.name
        if self._may_join(name, is_nested):
            self._users[name] += 1
            return _Entry.JOINS
        if self._changer is not None or not (is_nested or self._queue[0] is wait):
            return None
        others = self._others(name)
        idle = self._idle(others)
        if self._fits(name, others) or (is_nested and not idle):
            self._users[name] += 1
            self._changer, self._loading = wait, name
            return _Entry.LOADS
        if idle:
            self._changer, self._leaving = wait, idle[0]
            return idle[0]
        if self._claimed not in others:
            self._claimed = min(others, key=self._used)
        return None

    def _waits_for(self, wait: Wait) -> str | None:
        """What the call waits for, as its progress says it."""
        if self._changer is not None and self._changer is not wait and self._changer.name != wait.name:
            return (
                f"waiting until {self._changer.name} is {'free' if self._leaving == self._changer.name else 'loaded'}"
            )
        return None if self._claimed is None else f"waiting until {self._claimed} is free"

    def _may_join(self, name: str, is_nested: bool) -> bool:
        if name == self._leaving or (name == self._claimed and not is_nested):
            return False
        return name == self._loading or self._is_loaded(name)

    def _is_loaded(self, name: str) -> bool:
        engine = self._made().get(name)
        return engine is not None and engine.status().state in _LOADED

    def _others(self, name: str) -> list[str]:
        """The other models that are in memory."""
        return [other for other in self._made() if other != name and self._is_loaded(other)]

    def _idle(self, names: Collection[str]) -> list[str]:
        """Those that no call uses, the one used longest ago first."""
        made = self._made()
        return sorted(
            (name for name in names if not self._users[name] and made[name].status().state is EngineState.READY),
            key=self._used,
        )

    def _used(self, name: str) -> int:
        return self._last_use.get(name, 0)

    def _fits(self, name: str, others: Collection[str]) -> bool:
        if not others:
            return True
        if self._max_loaded is not None and len(others) >= self._max_loaded:
            return False
        return self._room.fits(name, others)

    def _pause(self, wait: Wait) -> None:
        """Waits for a change, or a moment; the lock is held."""
        self._stop_if_over(wait)
        left_s = LOOK_S if wait.deadline_s is None else min(LOOK_S, max(0.0, wait.deadline_s - time.monotonic()))
        self._changed.wait(left_s)

    def _stop_if_over(self, wait: Wait) -> None:
        if self._is_closed:
            raise EngineUnavailable("The server is shutting down.")
        if wait.cancellation.is_set():
            raise GenerationCancelled("The generation was cancelled.")
        if wait.deadline_s is not None and time.monotonic() >= wait.deadline_s:
            raise GenerationFailed(
                f"The time of this call was over before the model {wait.name} could be loaded: other models are in use."
            )

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
