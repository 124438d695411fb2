"""Calls that wait for the answer of a user, while the workers run others."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec

from mcp_protocol.calls.answers import ANSWER_S, MAX_ANSWER_BYTES, GivenAnswer
from mcp_protocol.calls.question import Question
from mcp_protocol.jsonrpc import Response, encode

if TYPE_CHECKING:
    from mcp_protocol.calls.call import Call
    from mcp_protocol.connection import Connection

MAX_OPEN = 64
"""Questions that may be open at a time, per client token."""


class CannotAsk(Exception):
    """The question cannot be sent; `str()` says why."""


class _Entry(msgspec.Struct):
    """An open question. `is_parked`: the worker has left the call, which another worker may continue."""

    call: Call
    name: str
    digest: str
    due_s: float
    is_parked: bool = False


class ParkedCalls:
    """The open questions by their ids, which are those of the requests to the clients.

    Arguments:
        lock: the reentrant lock of the queue, which guards this too.
        resume: puts a call back into the queue; the lock is held.
    """

    def __init__(self, lock: threading.RLock, resume: Callable[[Call], None]) -> None:
        self._lock = lock
        self._resume = resume
        self._entries: dict[str, _Entry] = {}
        self._numbers = itertools.count(1)

    def begin(self, call: Call, question: Question) -> str:
        """Opens a question of a running call and returns its id; the worker sends it and leaves the call.

        Raises: `CannotAsk` when the client cannot answer any more, or when too many questions are open.
        """
        due_s = time.monotonic() + ANSWER_S
        due_s = due_s if call.deadline_s is None else min(due_s, call.deadline_s)
        with self._lock:
            self._drop_claimed()
            if call.context.connection.ended:
                raise CannotAsk(INPUT_ENDED)
            if sum(entry.call.owner == call.owner for entry in self._entries.values()) >= MAX_OPEN:
                raise CannotAsk(f"{MAX_OPEN} questions to the user are open. Try again when some are answered.")
            call.question_id = f"ask-{next(self._numbers)}"
            self._entries[call.question_id] = _Entry(call, question.name, question.digest, due_s)
            return call.question_id

    def leave(self, call: Call) -> bool:
        """Called when a worker leaves a call, with the lock held; returns whether the call will run again.

        If the answer has come already, the call is put back into the queue now.
        """
        if call.question_id is None or call.is_claimed:
            return False
        call.started = False
        entry = self._entries.get(call.question_id)
        if entry is None:
            self._continue(call)
        else:
            entry.is_parked = True
        return True

    def answer(self, response: Response, connection: Connection) -> None:
        """Takes the response of a client to a question; one that is no answer to an open question is ignored."""
        with self._lock:
            entry = self._entries.get(response.id) if isinstance(response.id, str) else None
            if entry is None or entry.call.context.connection is not connection or entry.call.is_claimed:
                return
            del self._entries[response.id]
            entry.call.answers[entry.name] = _given(entry.digest, response)
            if entry.is_parked:
                self._continue(entry.call)

    def _continue(self, call: Call) -> None:
        call.question_id = None
        call.queued_s = time.monotonic()
        self._resume(call)

    def calls(self) -> list[Call]:
        """The unanswered calls, oldest question first."""
        with self._lock:
            return [entry.call for entry in self._entries.values() if not entry.call.is_claimed]

    @property
    def all_answered(self) -> bool:
        """Whether no call waits for an answer."""
        with self._lock:
            return all(entry.call.is_answered for entry in self._entries.values())

    def next_due_s(self) -> float | None:
        """The time (`time.monotonic()`) at which the first open question ends."""
        with self._lock:
            self._drop_claimed()
            return min((entry.due_s for entry in self._entries.values()), default=None)

    def end(self, connection: Connection) -> list[Call]:
        """Claims and returns the calls of a client that can answer no more; its later questions are not opened."""
        with self._lock:
            connection.ended = True
            own = [call for call in self.calls() if call.context.connection is connection]
            return [call for call in own if call.claim_response()]

    def overdue(self, now_s: float) -> Iterator[tuple[Call, str]]:
        """Claims the calls whose questions were not answered in time, and yields each with an error text."""
        with self._lock:
            late = [entry.call for entry in self._entries.values() if entry.due_s <= now_s]
        for call in late:
            if call.claim_response():
                yield call, TOO_LATE

    def _drop_claimed(self) -> None:
        for question_id in [key for key, entry in self._entries.items() if entry.call.is_claimed]:
            del self._entries[question_id]


def _given(digest: str, response: Response) -> GivenAnswer:
    if response.error is not None:
        text = response.error.get("message") if isinstance(response.error, dict) else None
        return GivenAnswer(digest, error=str(text)[:300])
    if len(encode(response.result)) > MAX_ANSWER_BYTES:
        return GivenAnswer(digest, error=f"its answer is longer than {MAX_ANSWER_BYTES} bytes.")
    return GivenAnswer(digest, response.result)


TOO_LATE = "The user did not answer the question in time. Nothing was done. Call again if it is still wanted."
INPUT_ENDED = "The user was not asked: the client's input has ended. Nothing was done."
