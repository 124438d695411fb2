"""Random streams as providers send them: `python -m tests.fuzz.provider_streams --count 20000`.

Each stream is one response in a format that servers use. Some changes keep all of its text: then the result must be the
text and never an error. Others damage it: then the result is a completion or an error with the text received so far.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

import httpx

from engine.errors import EngineError, EngineUnavailable
from engine.interface import Completion, Control, Conversation
from engine.remote.failures import RemoteServer
from engine.remote.generation import RemoteGeneration
from engine.remote.model_server import ModelServer, hang_up
from engine.remote.requests import Endpoint, OpenAIRequests
from http_client.event_loop import EventLoopThread
from http_client.outgoing import Outgoing
from tests.fuzz.provider_cases import CONVERSATION, KEY, Case, made


class Tally(NamedTuple):
    """What came of the streams, and the first that broke a promise."""

    n: int
    n_whole: int
    n_damaged: int
    n_errors: int
    finding: str | None


def run(count: int, seed: int) -> Tally:
    """Plays so many streams."""
    chance = random.Random(seed)
    player = _Player()
    n_whole = n_errors = 0
    finding = None
    try:
        for number in range(count):
            case = made(chance)
            n_whole += case.must_come
            outcome = player.play(case)
            n_errors += isinstance(outcome, Exception)
            finding = wrong(case, outcome)
            if finding is not None:
                finding = (
                    f"stream {number} of seed {seed}: {finding}\n{case.headers}\n{b''.join(case.pieces)[:3_000]!r}"
                )
                break
    finally:
        player.close()
    return Tally(number + 1, n_whole, number + 1 - n_whole, n_errors, finding)


def wrong(case: Case, outcome: Completion | BaseException) -> str | None:
    """Which promise was broken, if one was."""
    if isinstance(outcome, BaseException) and not isinstance(outcome, EngineError):
        return f"an exception that is none of ours: {outcome!r}"
    said = str(outcome) if isinstance(outcome, EngineError) else outcome.text if isinstance(outcome, Completion) else ""
    if KEY in said or "Traceback" in said or "Error(" in said:
        return f"something that is nobody's business: {said[:200]}"
    if not case.must_come:
        return None
    if isinstance(outcome, Completion):
        calls = tuple((call.name, json.loads(call.arguments)) for call in outcome.tool_calls)
        if calls != case.calls:
            return f"{calls} in place of {case.calls}"
        return None if outcome.text == case.text else f"{outcome.text!r} in place of {case.text!r}"
    return None if not case.text.strip() and "empty" in said else f"an error in place of {case.text!r}: {said[:300]}"


class _Player:
    """Asks a server that answers with one case after the other."""

    def __init__(self) -> None:
        self._case: Case | None = None
        self._loop = EventLoopThread("fuzz")
        player = self

        class Scripted(Outgoing):
            def client(self, address: str, **rest: Any) -> httpx.AsyncClient:
                return httpx.AsyncClient(transport=_Transport(lambda: player._case), trust_env=False, **rest)

        self._server = ModelServer(RemoteServer("http://fuzz.example", KEY, silence_s=20.0), Scripted(), self._loop)
        self._requests = OpenAIRequests(Endpoint("http://fuzz.example", "m", False), 4)

    def play(self, case: Case) -> Completion | BaseException:
        """What comes of a case."""
        self._case = case

        async def not_found(refusal: EngineError) -> EngineError:
            return refusal

        def prepare(conversation: Conversation) -> Any:
            return self._server.prepare(self._requests, conversation, time.monotonic() + 0.5, not_found)

        submit: Callable[[Any], Future[None]] = self._server.submit
        try:
            (completion,) = RemoteGeneration(prepare, submit, [CONVERSATION], Control()).run()
        except Exception as error:
            return error
        return completion if completion.error is None else EngineUnavailable(completion.error)

    def close(self) -> None:
        """Ends the thread."""
        self._loop.close(lambda: hang_up([self._server]))


class _Transport(httpx.AsyncBaseTransport):
    def __init__(self, case: Callable[[], Case | None]) -> None:
        self._case = case

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        case = self._case()
        assert case is not None
        headers = [(name, value) for name, value in case.headers.items() if value]
        return httpx.Response(200, headers=headers, stream=_Body(case), request=request)


class _Body(httpx.AsyncByteStream):
    def __init__(self, case: Case) -> None:
        self._case = case

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._case.pieces:
            yield piece
        await asyncio.sleep(0)
        if self._case.breaks:
            raise httpx.ReadError("reset")


def main() -> int:
    """Plays the streams and shows what came of it; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz.provider_streams", description="Fuzzes the reading of providers' streams."
    )
    parser.add_argument("--count", type=int, default=20_000, help="how many streams (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="where chance begins (default: %(default)s)")
    options = parser.parse_args()
    started_s = time.monotonic()
    tally = run(options.count, options.seed)
    print(
        f"{tally.n:,} streams, {tally.n_whole:,} whole and {tally.n_damaged:,} damaged; {tally.n_errors:,} errors; "
        f"{time.monotonic() - started_s:.0f} s"
    )
    if tally.finding is not None:
        print(tally.finding)
    return int(tally.finding is not None)


if __name__ == "__main__":
    sys.exit(main())
