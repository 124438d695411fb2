"""What is owed and what came: every line from the server is held against what the oracle expects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mcp_types.methods import validate_server_result
from pydantic import ValidationError

from tests.fuzz.oracle import MODERN, NO_ID, RESULT, Due, Key, Oracle, Outcome, key_of

Json = dict[str, Any]


class Violation(AssertionError):
    """The server broke a promise; `kind` is "lost", "doubled", "crashed" or "wrong"."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class Account:
    """What is owed to one id and what came for it. Several requests may have the same id: any order of answers is right
    in which each finds a request that it fits."""

    def __init__(self) -> None:
        self.dues: list[Due] = []
        self.outcomes: list[Outcome] = []

    @property
    def settled(self) -> bool:
        """Whether nothing more can come."""
        return len(self.outcomes) >= len(self.dues)

    def fits(self) -> bool:
        """Whether each answer belongs to a request."""
        return len(_pairs(self.outcomes, self.dues)) == len(self.outcomes)

    def missing(self, *, with_streams: bool) -> list[Due]:
        """The requests that wait for an answer, those left out that were cancelled."""
        wanted = [due for due in self.dues if not due.excused and (with_streams or due.when != "stream")]
        answered = _pairs(self.outcomes, wanted)
        return [due for i, due in enumerate(wanted) if i not in answered]

    def grow_old(self) -> None:
        """Keeps what was cancelled in the last stream, whose answer may still be on its way, and no more."""
        self.dues = [due for due in self.dues if due.excused and not due.forgotten and not self.settled]
        self.outcomes = []
        for due in self.dues:
            due.forgotten = True


class Ledger:
    """The answers that one process owes, over all streams that it gets."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._accounts: dict[Key, Account] = {}
        self._asked_before: set[str] = set()
        self.n_due = 0
        self.n_answered = 0

    def begin_stream(self) -> None:
        """Closes the accounts of the stream before the last."""
        self._asked_before, self._oracle.asked_for = self._oracle.asked_for, set()
        for account in self._accounts.values():
            account.grow_old()
        self._accounts = {key: account for key, account in self._accounts.items() if account.dues}

    def expect(self, stream: bytes) -> None:
        """Enters what is due for some lines."""
        for event in self._oracle.events(stream):
            if isinstance(event, Due):
                self.n_due += 1
                self._accounts.setdefault(event.key, Account()).dues.append(event)
            elif event.key in self._accounts:
                for due in self._accounts[event.key].dues:
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
        missing = (account.missing(with_streams=with_streams) for account in self._accounts.values())
        return [due for dues in missing for due in dues]

    def overdue(self) -> list[Due]:
        """What should have come before anything that was sent later."""
        accounts = (account for account in self._accounts.values() if len(account.dues) == 1)
        return [due for account in accounts for due in account.missing(with_streams=False) if due.when == "now"]

    def streams(self) -> Iterator[Due]:
        """The requests that opened streams, each answered when the server ends, and those that may still be open: a
        cancellation may have meant another request of the same id."""
        dues = (due for account in self._accounts.values() for due in account.dues)
        return (due for due in dues if due.when == "stream" and not due.forgotten)

    def _check_answer(self, message: Json) -> None:
        key = key_of(message["id"]) if "id" in message else NO_ID
        account = self._accounts.get(key or NO_ID, Account())
        account.outcomes.append(_outcome(message))
        self.n_answered += 1
        if not account.fits():
            if len(account.outcomes) > len([due for due in account.dues if not (due.excused and due.held)]):
                raise Violation("doubled", f"nobody waits for {_shown(message)}")
            raise Violation("wrong", f"{_shown(message)} for {_shown(account.dues)}")
        if "result" in message and len(account.dues) == 1:
            _check_result(account.dues[0], message["result"])

    def _check_notification(self, message: Json) -> None:
        method, params = message["method"], message.get("params")
        if set(message) != {"jsonrpc", "method", "params"} or not isinstance(params, dict):
            raise Violation("wrong", f"no notification: {_shown(message)}")
        if method == "notifications/progress":
            token = key_of(params.get("progressToken"))
            open_accounts = (account for account in self._accounts.values() if not account.settled)
            told = [due for account in open_accounts for due in account.dues if due.token == token]
            if not told:
                raise Violation("wrong", f"progress of no call in flight: {_shown(message)}")
            if len(told) == 1 and params["progress"] <= told[0].progress:
                raise Violation("wrong", f"progress that does not grow: {_shown(message)}")
            told[0].progress = params["progress"]
        elif method not in self._oracle.asked_for | self._asked_before:
            raise Violation("wrong", f"nobody asked for {_shown(message)}")


def _pairs(outcomes: Sequence[Outcome], dues: Sequence[Due]) -> dict[int, int]:
    """As many pairs as there can be of a request (by its index) and an outcome that fits it (by its)."""
    pairs: dict[int, int] = {}

    def placed(outcome: int, tried: set[int]) -> bool:
        for i, due in enumerate(dues):
            fits = outcomes[outcome] in due.outcomes and not (due.excused and due.held)
            if fits and i not in tried:
                tried.add(i)
                if i not in pairs or placed(pairs[i], tried):
                    pairs[i] = outcome
                    return True
        return False

    for outcome in range(len(outcomes)):
        placed(outcome, set())
    return pairs


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


def _check_no_tasks(result: Json) -> None:
    """The list is empty: no request begins a task."""
    if result != {"tasks": []}:
        raise ValueError(_shown(result))


def _check_result(due: Due, result: Json) -> None:
    """The result is what the revision prescribes, and no tool failed by a defect."""
    try:
        if due.method == "tasks/list":  # the official types have no methods about tasks
            _check_no_tasks(result)
        else:
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
