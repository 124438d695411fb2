"""The requests of one `generate` call, as their caller sees them."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from engine.errors import EngineError
from engine.interface import Completion, Control, Conversation, SpeechWindow


class Batch:
    """The handle that the caller of `generate` waits on.

    The scheduler posts calls (new text, completions, errors) under its lock; they run in the caller's thread when that
    delivers them, so a slow listener holds up nobody else.

    Arguments:
        control: the caller's listeners, cancellation and deadline.
        output_kind: vLLM's `RequestOutputKind` for all requests.

    Attributes of the caller's thread: `conversations` are those submitted so far; `n_unfinished` counts those without a
    completion. Attribute of the scheduler: `is_ended`, whether an error has ended the batch as a whole.
    """

    def __init__(self, control: Control, output_kind: Any) -> None:
        self.control = control
        self.output_kind = output_kind
        self.started_s = time.monotonic()
        self.conversations: list[Conversation | SpeechWindow] = []
        self.completions: dict[int, Completion] = {}
        self.n_unfinished = 0
        self.is_ended = False
        self._error: BaseException | None = None
        self._rejection: EngineError | None = None
        self._posted: list[Callable[[], None]] = []
        self._inbox: queue.SimpleQueue[list[Callable[[], None]]] = queue.SimpleQueue()

    def post(self, listener: Callable[..., None] | None, *arguments: Any) -> None:
        """Makes a call that runs in the caller's thread."""
        if listener is not None and not self.is_ended:
            self._posted.append(partial(listener, *arguments))

    def end(self, error: BaseException) -> None:
        """Makes the caller's `deliver` raise, after what was posted before."""
        if not self.is_ended:
            self._error = error
            self.post(self._raise_error)
            self.is_ended = True

    def flush(self) -> None:
        """Hands what was posted to the caller."""
        if self._posted:
            posted, self._posted = self._posted, []
            self._inbox.put(posted)

    def deliver(self, *, waits: bool) -> None:
        """Runs what was handed over, in the caller's thread.

        Arguments:
            waits: whether to wait until there is something.
        Raises: what a listener raises, and the error that has ended the batch.
        """
        while waits or not self._inbox.empty():
            for call in self._inbox.get():
                call()
            waits = False

    def complete(self, index: int, completion: Completion) -> None:
        """Stores a completion; runs in the caller's thread."""
        self.completions[index] = completion
        self.n_unfinished -= 1
        if self.control.on_finished is not None:
            self.control.on_finished(index)

    def reject(self, index: int, error: EngineError) -> None:
        """Stores why a conversation has no completion; runs in the caller's thread."""
        self._rejection = error
        self.complete(index, Completion(error=str(error)))

    def results(self) -> list[Completion]:
        """All completions in the order of the conversations.

        Raises: the error of a single conversation.
        """
        rejection, self._rejection = self._rejection, None  # it would refer to itself through its traceback
        if rejection is not None and len(self.conversations) == 1:
            raise rejection
        return [self.completions[index] for index in range(len(self.conversations))]

    def _raise_error(self) -> None:
        error, self._error = self._error, None  # no reference from the error's traceback to itself
        try:
            assert error is not None
            raise error
        finally:
            del error
