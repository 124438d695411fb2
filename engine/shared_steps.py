"""One engine, many generations: whoever waits for outputs steps it for all, and the others get theirs handed over.

There is no thread of its own for the steps, so a generation that is alone costs nothing more. Its thread steps until
its outputs are there; then another one that waits goes on.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from engine.errors import GenerationFailed
from engine.turns import FairLock

LOOK_S = 0.02
"""How often a generation that another thread steps for looks at its deadline and asks whether it is cancelled."""


class EngineBroken(Exception):
    """The engine raised in the middle of a step, or said that it is gone; the cause tells why."""


class Steppable(Protocol):
    """An engine as far as its steps are concerned."""

    def is_ready(self) -> bool:
        """Whether a step would return soon; False after a short wait."""

    def has_unfinished(self) -> bool:
        """Whether another step is needed."""

    def step(self) -> list[Any]:
        """The outputs of one step."""


class Seat:
    """One generation's place among those in flight.

    Arguments: `after_step`, called after each step by whoever made it, while nobody else uses the engine.
    """

    def __init__(self, after_step: Callable[[], None]) -> None:
        self.after_step = after_step
        self.waits = False
        self._inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def hand(self, output: Any) -> None:
        """Gives it an output; `None` makes it look around."""
        self._inbox.put(output)

    def taken(self) -> list[Any]:
        """The outputs that were handed over."""
        found = []
        while not self._inbox.empty():
            output = self._inbox.get()
            if output is not None:
                found.append(output)
        return found

    def wait(self) -> list[Any]:
        """Waits a moment for outputs."""
        try:
            output = self._inbox.get(timeout=LOOK_S)
        except queue.Empty:
            return []
        return [*([] if output is None else [output]), *self.taken()]


class SharedSteps:
    """The steps of one loaded engine, for all generations in flight.

    Attributes: `engine_lock`, to be held by whoever uses the engine; `broken`, what made the engine unusable.
    """

    def __init__(self, engine: Steppable) -> None:
        self.engine_lock = FairLock()
        self.broken: BaseException | None = None
        self._engine = engine
        self._stepping = threading.Lock()
        self._seats: dict[Seat, None] = {}
        self._owners: dict[str, Seat] = {}

    @contextlib.contextmanager
    def seat(self, after_step: Callable[[], None]) -> Iterator[Seat]:
        """A place for a generation from its beginning to its end."""
        seat = Seat(after_step)
        self._seats[seat] = None
        try:
            yield seat
        finally:
            del self._seats[seat]
            self._wake_another(seat)

    def is_alone(self, seat: Seat) -> bool:
        """Whether no other generation is in flight."""
        return len(self._seats) == 1 and seat in self._seats

    def own(self, request_id: str, seat: Seat) -> None:
        """From now on this request's outputs are for that generation; the engine lock is held."""
        self._owners[request_id] = seat

    def disown(self, seat: Seat) -> None:
        """Drops what is still to come for a generation; the engine lock is held."""
        for request_id in [request_id for request_id, owner in self._owners.items() if owner is seat]:
            del self._owners[request_id]

    def check(self) -> None:
        """Raises `EngineBroken` for every generation once one of them has found that out."""
        if self.broken is not None:
            raise EngineBroken from self.broken

    def fail(self, cause: BaseException) -> None:
        """The engine is gone, for all generations in flight."""
        if self.broken is None:
            self.broken = cause
        for seat in list(self._seats):
            seat.hand(None)

    def outputs(self, seat: Seat) -> list[Any]:
        """New outputs for one generation, or none after one step or a short wait.

        Raises: `EngineBroken`; `GenerationFailed` when nothing is to be expected any more.
        """
        self.check()
        if found := seat.taken():
            return found
        seat.waits = True  # first, so that whoever stops stepping just now sees it
        try:
            if not self._stepping.acquire(blocking=False):
                return seat.wait()
            try:
                found = seat.taken() or self._step(seat)
            finally:
                self._stepping.release()
        finally:
            seat.waits = False
        if found:
            self._wake_another(seat)
        return found

    def _step(self, seat: Seat) -> list[Any]:
        """Makes a step for all; returns the outputs for this generation."""
        if not self._engine.has_unfinished():
            raise GenerationFailed("The engine lost a request. Send it again.")
        try:
            if not self._engine.is_ready():
                return []
            with self.engine_lock:
                return self._handed_over(self._engine.step(), seat)
        except EngineBroken as broken:
            self.fail(broken.__cause__ or broken)
            raise

    def _handed_over(self, outputs: list[Any], seat: Seat) -> list[Any]:
        for other in list(self._seats):
            other.after_step()
        own = []
        for output in outputs:
            owner = self._owners.get(output.request_id)
            if owner is None:
                continue
            if output.finished:
                del self._owners[output.request_id]
            if owner is seat:
                own.append(output)
            else:
                owner.hand(output)
        return own

    def _wake_another(self, seat: Seat) -> None:
        """Lets another generation that waits go on with the steps."""
        for other in list(self._seats):
            if other is not seat and other.waits:
                other.hand(None)
                return
