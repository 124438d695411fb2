"""A client with many pending requests, which counts the responses to each."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable

import msgspec

from benchmarks.pipe_server import Json, PipeServer, ServerFailed, request_line
from benchmarks.soak_traffic import Request

IN_FLIGHT = 12
ANSWER_S = 180.0


class Tally(msgspec.Struct):
    """The requests so far; all but `answered`, `cancelled`, `notifications` must stay empty."""

    sent: Counter[str] = msgspec.field(default_factory=Counter)
    answered: Counter[str] = msgspec.field(default_factory=Counter)
    cancelled: Counter[str] = msgspec.field(default_factory=Counter)
    refused: Counter[str] = msgspec.field(default_factory=Counter)
    """Of the answered: those whose answer is an error."""
    wrong: list[str] = msgspec.field(default_factory=list)
    """Answers that are errors and should not be, or the other way round."""
    repeated: list[str] = msgspec.field(default_factory=list)
    unanswered: list[str] = msgspec.field(default_factory=list)
    n_broken: int = 0
    n_without_id: int = 0
    n_notifications: int = 0

    @property
    def n_not_once(self) -> int:
        """Requests that were not answered exactly once (cancelled ones: at most once), broken lines included."""
        return len(self.unanswered) + len(self.repeated) + abs(self.n_broken - self.n_without_id)


class SoakClient:
    """Sends from the caller's thread and reads on one of its own."""

    def __init__(self, pipes: PipeServer) -> None:
        self._pipes = pipes
        self.tally = Tally()
        self.jobs: list[str] = []
        self._waiting: dict[int, Request] = {}
        self._answered: set[int] = set()
        self._cancelled: dict[int, Request] = {}
        self._last: dict[int, Json] = {}
        self._next_id = 1
        self._changed = threading.Condition()
        self._ended = False
        self._closed = False
        threading.Thread(target=self._read, name="answers", daemon=True).start()

    def send(self, request: Request) -> int:
        """Sends one request as soon as there are few enough on their way; returns its id."""
        with self._changed:
            self._wait_for(lambda: len(self._waiting) < IN_FLIGHT)
            number, self._next_id = self._next_id, self._next_id + 1
            self._waiting[number] = request
            self.tally.sent[request.kind] += 1
        self._pipes.send(request_line(request.method, request.params, number))
        return number

    def send_broken(self, line: bytes) -> None:
        """Sends a line that is no message."""
        self.tally.n_broken += 1
        self._pipes.send(line + b"\n")

    def cancel(self, number: int) -> None:
        """Cancels a request, without waiting for a response."""
        with self._changed:
            request = self._waiting.pop(number, None)
            if request is None:
                return
            self._cancelled[number] = request
            self.tally.cancelled[request.kind] += 1
            self._changed.notify_all()
        notification = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}}
        self._pipes.send(msgspec.json.encode(notification) + b"\n")

    def ask(self, request: Request) -> Json:
        """Sends one request and waits for its answer."""
        number = self.send(request)
        with self._changed:
            self._wait_for(lambda: number not in self._waiting)
            return self._last[number]

    def drain(self) -> None:
        """Waits until all requests have a response, three minutes at most."""
        with self._changed:
            with contextlib.suppress(TimeoutError):
                self._wait_for(lambda: not self._waiting)
            self.tally.unanswered += [request.kind for request in self._waiting.values()]
            self._waiting.clear()
            self._last.clear()

    def close(self) -> None:
        """Marks the end of the responses as expected."""
        self._closed = True

    def _wait_for(self, condition: Callable[[], bool]) -> None:
        if not self._changed.wait_for(lambda: self._ended or condition(), ANSWER_S):
            raise TimeoutError
        if self._ended:
            raise ServerFailed("the server ended")

    def _read(self) -> None:
        try:
            while True:
                message = msgspec.json.decode(self._pipes.receive())
                with self._changed:
                    self._take(message)
                    self._changed.notify_all()
        except (ServerFailed, OSError, ValueError) as error:
            with self._changed:
                if self._closed:
                    return
                self.tally.wrong.append(f"the stream of answers ended: {str(error)[:300]}")
                self._ended = True
                self._changed.notify_all()

    def _take(self, message: Json) -> None:
        if "method" in message:
            self.tally.n_notifications += 1
            return
        number = message.get("id")
        if number is None:
            self.tally.n_without_id += 1
            return
        request = self._waiting.pop(number, None)
        if number in self._answered or (request is None and number not in self._cancelled):
            self.tally.repeated.append(f"{number}: {str(message)[:200]}")
            return
        self._answered.add(number)
        if request is not None:
            self._judge(request, message)
            self._last[number] = message

    def _judge(self, request: Request, message: Json) -> None:
        self.tally.answered[request.kind] += 1
        result = message.get("result", {})
        failed = "error" in message or bool(result.get("isError"))
        self.tally.refused[request.kind] += failed
        if request.fails is not None and failed is not request.fails:
            self.tally.wrong.append(f"{request.kind}: {str(message)[:300]}")
        if not failed and request.params.get("name") == "batch_generate":
            self.jobs += [value for value in [_batch_id(result)] if value]


def _batch_id(result: Json) -> str | None:
    found: str | None = json.loads(result["content"][0]["text"]).get("batch_id")
    return found


def wait_until(condition: Callable[[], bool], timeout_s: float) -> bool:
    """Whether a condition came true in time."""
    until_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > until_s:
            return False
        time.sleep(0.1)
    return True
