"""What is owed and what came: every line from the server is held against what the oracle expects."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mcp_types.methods import validate_server_result
from pydantic import ValidationError

from tests.fuzz.oracle import MODERN, NO_ID, RESULT, Cancel, Due, Key, Oracle, Outcome, key_of

Json = dict[str, Any]


class Violation(AssertionError):
    """The server broke a promise; `kind` is "lost", "doubled", "crashed" or "wrong"."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class Ledger:
    """The answers that one process owes, over all streams that it gets."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._owed: dict[Key, list[Due]] = {}
        self._asked_before: set[str] = set()
        self.n_due = 0
        self.n_answered = 0

    def begin_stream(self) -> None:
        """Forgets what was excused before the last stream, whose answers may still be on their way."""
        self._asked_before, self._oracle.asked_for = self._oracle.asked_for, set()
        for key, dues in list(self._owed.items()):
            self._owed[key] = [due for due in dues if not due.forgotten]
            for due in self._owed[key]:
                due.forgotten = due.excused
        self._owed = {key: dues for key, dues in self._owed.items() if dues}

    def expect(self, stream: bytes) -> None:
        """Enters what is due for some lines."""
        for event in self._oracle.events(stream):
            if isinstance(event, Due):
                self.n_due += 1
                self._owed.setdefault(event.key, []).append(event)
            else:
                self._excuse(event)

    def _excuse(self, cancel: Cancel) -> None:
        for due in self._owed.get(cancel.key, ()):
            due.excused = due.excused or due.when != "now"

    def take(self, message: Json) -> None:
        """Enters a message from the server.

        Raises: `Violation`, when it is none that is due or was asked for.
        """
        if "method" in message:
            self._check_notification(message)
        else:
            self._check_answer(message)

    def open(self, *, with_streams: bool = False) -> list[Due]:
        """What is still to come."""
        dues = (due for dues in self._owed.values() for due in dues if not due.excused)
        return [due for due in dues if with_streams or due.when != "stream"]

    def streams(self) -> Iterator[Due]:
        """The requests that opened streams, each answered when the server ends."""
        return (due for dues in self._owed.values() for due in dues if due.when == "stream" and not due.excused)

    def _check_answer(self, message: Json) -> None:
        outcome = _outcome(message)
        key = key_of(message["id"]) if "id" in message else NO_ID
        dues = self._owed.get(key or NO_ID, [])
        fitting = [due for due in dues if outcome in due.outcomes and not (due.excused and due.held)]
        if not fitting:
            if any(due.held for due in dues):
                raise Violation("doubled", f"a cancelled call was answered: {_shown(message)}")
            if not dues:
                raise Violation("doubled", f"nobody waits for {_shown(message)}")
            raise Violation("wrong", f"{_shown(message)} for {_shown(dues[0])}")
        due = min(fitting, key=lambda due: due.excused)
        if outcome == RESULT and len(dues) == 1:
            _check_result(due, message["result"])
        dues.remove(due)
        self.n_answered += 1

    def _check_notification(self, message: Json) -> None:
        method, params = message["method"], message.get("params")
        if set(message) != {"jsonrpc", "method", "params"} or not isinstance(params, dict):
            raise Violation("wrong", f"no notification: {_shown(message)}")
        if method == "notifications/progress":
            token = key_of(params.get("progressToken"))
            if not any(due.token == token for dues in self._owed.values() for due in dues):
                raise Violation("wrong", f"progress of no call in flight: {_shown(message)}")
        elif method not in self._oracle.asked_for | self._asked_before:
            raise Violation("wrong", f"nobody asked for {_shown(message)}")


def _outcome(message: Json) -> Outcome:
    if "result" in message:
        if set(message) == {"jsonrpc", "id", "result"} and isinstance(message["result"], dict):
            return RESULT
    else:
        error = message.get("error")
        if isinstance(error, dict) and set(message) <= {"jsonrpc", "id", "error"}:
            code, text = error.get("code"), error.get("message")
            if type(code) is int and isinstance(text, str) and set(error) <= {"code", "message", "data"}:
                return code
    raise Violation("wrong", f"neither a result nor an error: {_shown(message)}")


def _check_result(due: Due, result: Json) -> None:
    """The result is what the revision prescribes, and no tool failed by a defect."""
    try:
        validate_server_result(due.method, due.revision, result)
    except (ValidationError, ValueError, KeyError) as error:
        raise Violation("wrong", f"{due.method} in {due.revision}: {error}") from None
    if (due.revision == MODERN) != ("resultType" in result):
        raise Violation("wrong", f"{due.method} in {due.revision}: {_shown(result)}")
    if due.method == "tools/call" and result.get("isError") and "Internal error" in str(result["content"]):
        raise Violation("wrong", f"{_shown(result)} for {_shown(due)}")


def _shown(thing: Any, n_characters: int = 600) -> str:
    text = repr(thing)
    return text if len(text) <= n_characters else f"{text[:n_characters]}… ({len(text)} characters)"
