"""One engine, many generations: their steps are shared, and each gets its own outputs.

Where generations come one after another, each steps in its own thread, which costs nothing more. Where several may be
in flight, one thread that does nothing else steps for all: OpenMP keeps workers for every thread that computes, and
oneDNN its kernels, and with more workers than processors each of a step's hundreds of barriers takes longer (a fifth of
the time, with eight such threads).
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
"""How often a generation for which the other thread steps looks at its deadline and asks whether it is cancelled."""
END_S = 5.0


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

    Arguments: the engine; whether a thread of its own steps, from the first generation until `end`.
    Attributes: `engine_lock`, to be held by whoever uses the engine; `broken`, what made the engine unusable.
    """

    def __init__(self, engine: Steppable, own_thread: bool = False) -> None:
        self.engine_lock = FairLock()
        self.broken: BaseException | None = None
        self._engine = engine
        self._own_thread = own_thread
        self._stepping = threading.Lock()
        self._seats: dict[Seat, None] = {}
        self._owners: dict[str, Seat] = {}
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._added = threading.Event()
        self._is_over = False

    @contextlib.contextmanager
    def seat(self, after_step: Callable[[], None]) -> Iterator[Seat]:
        """A place for a generation from its beginning to its end."""
        seat = Seat(after_step)
        self._seats[seat] = None
        try:
            if self._own_thread and self._thread is None:
                self._start_thread()
            yield seat
        finally:
            del self._seats[seat]

    def end(self) -> None:
        """Ends the thread, if there is one; there are no generations any more."""
        self._is_over = True
        self._added.set()
        if self._thread is not None:
            self._thread.join(END_S)

    def is_alone(self, seat: Seat) -> bool:
        """Whether no other generation is in flight."""
        return len(self._seats) == 1 and seat in self._seats

    def own(self, request_id: str, seat: Seat) -> None:
        """From now on this request's outputs are for that generation; the engine lock is held."""
        self._owners[request_id] = seat
        self._added.set()

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
        if self._own_thread:
            return seat.wait() or self._found(seat)
        with self._stepping:
            if found := seat.taken():
                return found
            if self._engine.has_unfinished():
                self._step()
            return self._found(seat)

    def _found(self, seat: Seat) -> list[Any]:
        """What has been handed over; raises `GenerationFailed` when there is none and none will come."""
        if self._engine.has_unfinished():
            return seat.taken()
        with self.engine_lock:  # the last output may just be on its way
            found = seat.taken()
            if not found and self.broken is None and not self._engine.has_unfinished():
                raise GenerationFailed("The engine lost a request. Send it again.")
            return found

    def _step(self) -> None:
        """Makes a step for all, or none while the engine is not ready."""
        try:
            if self._engine.is_ready():
                with self.engine_lock:
                    self._hand_over(self._engine.step())
        except EngineBroken as broken:
            self.fail(broken.__cause__ or broken)
            raise

    def _hand_over(self, outputs: list[Any]) -> None:
        for seat in list(self._seats):
            seat.after_step()
        for output in outputs:
            owner = self._owners.get(output.request_id)
            if owner is None:
                continue
            if output.finished:
                del self._owners[output.request_id]
            owner.hand(output)

    def _start_thread(self) -> None:
        """Raises `RuntimeError` when the system gives none."""
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="engine-steps", daemon=True)
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        """Steps as long as anything is unfinished, then waits for more."""
        try:
            while not self._is_over:
                self._added.wait()
                self._added.clear()
                while not self._is_over and self._engine.has_unfinished():
                    self._step()
        except EngineBroken:
            return  # all have been told
        except BaseException as error:
            self.fail(error)
