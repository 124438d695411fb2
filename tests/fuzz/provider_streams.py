"""Streams of answers as providers send them, changed at random: `python -m tests.fuzz.provider_streams --count 20000`.

Each stream is one answer in one of the forms that servers use. Some changes leave all of its text in it: then the text
must come out, and never an error. Others damage it: then it is an answer or an error in our words, which holds what
text had come.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import random
import sys
import time
import zlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from typing import Any, NamedTuple

import httpx

from engine.errors import EngineError, EngineUnavailable
from engine.interface import Completion, Control, Conversation, Message, Sampling, TextPart
from engine.loop_thread import LoopThread
from engine.model_server import ModelServer
from engine.openai_requests import Endpoint, OpenAIRequests
from engine.remote_failures import RemoteServer
from engine.remote_generation import RemoteGeneration
from http_client.outgoing import Outgoing

KEY = "sk-very-secret-0123456789"
NAMES = ("weather", "clock")
TOOLS = tuple({"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in NAMES)
CONVERSATION = Conversation((Message("user", (TextPart("hello"),)),), Sampling(0.0, 64), tools=TOOLS)
WORDS = (
    "one", " two", "\n", " ", "", "Grüße", "你好", "👋🏽", '"quoted"', "{", "}", "data: x", "[DONE]", "\\", "<b>",
    "\u2028", " error", "null", "a" * 500,
)  # fmt: skip
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 5, 1.5, 10**30, "", "x", "7", "null", "2024-01-01T00:00:00Z", [], {}, [None], [[]],
    {"a": []},
)  # fmt: skip
NOTES = (
    b": keep-alive", b": OPENROUTER PROCESSING", b"event: message", b"event: ping\ndata: {}", b"id: 7", b"retry: 3000",
    b'data: "ping"', b'data: {"type": "ping"}', b"data: null", b"data: 1", b"data: []", b"data:", b"data", b"",
    b'data: {"message": "still at it"}', b"data: [PING]", b'data: {"choices": [], "prompt_filter_results": []}',
)  # fmt: skip
ENDS = (
    "stop", "STOP", "eos", "eos_token", "end", "end_turn", "stop_sequence", "length", "max_tokens", "complete", "done",
    "tool_calls", "content_filter", "SAFETY", "FinishReason.STOP", "whatever", "unknown",
)  # fmt: skip
LINE_ENDS = (b"\n", b"\r\n", b"\r")


class Case(NamedTuple):
    """A stream: the pieces of its body, its headers, the text that is in it, whether that must come out, whether the
    connection breaks at its end, and the calls that are in it as their names and arguments."""

    pieces: list[bytes]
    headers: dict[str, str]
    text: str
    must_come: bool
    breaks: bool
    calls: tuple[tuple[str, Any], ...] = ()


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


def made(chance: random.Random) -> Case:
    """A stream that chance makes."""
    texts = [chance.choice(WORDS) for _ in range(chance.randint(1, 8))]
    text = "".join(texts)
    if not text.strip():
        texts, text = ["well"], "well"
    if chance.random() < 0.12:
        return _whole_answer(chance, text)
    events = [_event(chance, piece) for piece in texts]
    if chance.random() < 0.3:
        events.insert(0, _event(chance, None, {"role": "assistant", "content": chance.choice(("", None))}))
    if chance.random() < 0.3:
        events.insert(chance.randint(0, len(events)), _event(chance, None, _thought(chance)))
    calls = _calls(chance) if chance.random() < 0.2 else ()
    events += [_event(chance, None, {"tool_calls": [piece]}) for piece in _pieces(chance, calls)]
    has_done, has_end = chance.choice(((True, True), (True, True), (False, True), (True, False)))
    if has_end:
        events.append(_event(chance, None, chance.choice(({}, {"content": ""}, None)), chance.choice(ENDS)))
    if chance.random() < 0.5:
        events.append({"choices": chance.choice(([], [], None)), "usage": _usage(chance)})
    lines = [_line(chance, event) for event in events]
    for _ in range(chance.choice((0, 0, 1, 3))):
        lines.insert(chance.randint(0, len(lines)), chance.choice(NOTES))
    if has_done:
        lines.append(chance.choice((b"data: [DONE]", b"data:[DONE]", b"[DONE]", b"data: [DONE] ")))
    line_end = chance.choice(LINE_ENDS)
    between = line_end * chance.choice((2, 2, 2, 1))
    body = between.join(line.replace(b"\n", line_end) for line in lines) + between * chance.choice((1, 1, 0))
    if chance.random() < 0.1:
        body = b"\xef\xbb\xbf" + body
    headers = {"Content-Type": chance.choice(("text/event-stream", "application/json", "text/plain", "text/html", ""))}
    if chance.random() < 0.35:
        return Case(_cut(chance, _damaged(chance, body)), headers, text, False, chance.random() < 0.3)
    breaks = has_end and chance.random() < 0.1  # behind the end of an answer nothing can take it away
    return _packed(chance, body, headers, text, breaks)._replace(calls=calls)


def _calls(chance: random.Random) -> tuple[tuple[str, Any], ...]:
    values: list[Any] = ["x", 'a"b', {"c": []}, 5, None, "}{", "[DONE]"]
    return tuple(
        (chance.choice(NAMES), {"n": number, "v": chance.choice(values)}) for number in range(chance.randint(1, 3))
    )


def _pieces(chance: random.Random, calls: tuple[tuple[str, Any], ...]) -> list[dict[str, Any]]:
    """The calls in pieces, told apart as some server does: by numbers, ids, or their names alone."""
    how = chance.choice(("number", "id", "every id", "same number", "text", "names"))
    found = []
    for number, (name, arguments) in enumerate(calls):
        text = json.dumps(arguments)
        cuts = sorted(chance.randint(0, len(text)) for _ in range(chance.choice((0, 1, 3))))
        parts = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
        for at, part in enumerate(parts):
            piece: dict[str, Any] = {"function": {"arguments": part}, "type": "function"}
            if at == 0:
                piece["function"]["name"] = name
            if how != "names" and (at == 0 or how == "every id"):
                piece["id"] = f"call_{number}"
            if how in ("number", "same number", "text"):
                piece["index"] = {"number": number, "same number": 0, "text": str(number)}[how]
            if len(parts) == 1 and chance.random() < 0.3:
                piece["function"]["arguments"] = arguments
            found.append(piece)
    return found


def _whole_answer(chance: random.Random, text: str) -> Case:
    """One JSON text in place of a stream."""
    message = {"role": "assistant", "content": chance.choice((text, [{"type": "text", "text": text}]))}
    choice: Any = {"index": 0, "message": message, "finish_reason": chance.choice((*ENDS, None))}
    if chance.random() < 0.2:
        choice = {"index": 0, "text": text, "finish_reason": "stop"}
    answer = {"id": chance.choice(ODD), "choices": chance.choice(([choice], choice)), "usage": _usage(chance)}
    body = json.dumps(answer, indent=chance.choice((None, 2)), ensure_ascii=chance.random() < 0.5).encode()
    body = chance.choice((b"", b"\n\n", b"\xef\xbb\xbf")) + body + chance.choice((b"", b"\n"))
    return _packed(chance, body, {"Content-Type": chance.choice(("application/json", "text/plain"))}, text, False)


def _packed(chance: random.Random, body: bytes, headers: dict[str, str], text: str, breaks: bool) -> Case:
    if chance.random() < 0.1 and not breaks:
        packed = chance.choice((gzip.compress, zlib.compress))
        body, headers = packed(body), {**headers, "Content-Encoding": "gzip" if packed is gzip.compress else "deflate"}
    if chance.random() < 0.5:
        headers = {**headers, "Transfer-Encoding": "chunked"}
    return Case(_cut(chance, body), headers, text, True, breaks)


def _event(
    chance: random.Random, text: str | None, delta: dict[str, Any] | None = None, ended: str | None = None
) -> dict[str, Any]:
    if text is not None:
        parts: list[Any] = [{"type": "text", "text": text}]
        delta = {"content": chance.choice((text, text, text, parts, [text], {"type": "text", "text": text}))}
        delta |= chance.choice(({}, {}, {"role": "assistant"}, {"tool_calls": chance.choice((None, [], {}))}))
    choice: dict[str, Any] = {"index": chance.choice((0, 0, 0, None, "0")), "delta": delta}
    if text is not None and chance.random() < 0.05:
        choice = {"index": 0, "text": text}
    choice["finish_reason"] = ended if ended is not None else chance.choice((None, None, "", "null"))
    if chance.random() < 0.15:
        choice["logprobs"] = chance.choice((*ODD, {"content": [{"token": "a", "logprob": "low"}]}))
    event: dict[str, Any] = {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}
    for _ in range(chance.choice((0, 0, 1, 2))):
        event[chance.choice(("id", "created", "model", "object", "system_fingerprint", "service_tier", "x"))] = _odd(
            chance
        )
    if chance.random() < 0.2:
        event["usage"] = chance.choice((*ODD, _usage(chance)))
    if chance.random() < 0.05:
        event["error"] = chance.choice((None, False, "", {}, []))
    return event


def _odd(chance: random.Random) -> Any:
    value = chance.choice(ODD)
    return "chunk" if value == "error" else value


def _thought(chance: random.Random) -> dict[str, Any]:
    return chance.choice(
        (
            {"reasoning": "hm"},
            {"reasoning_content": "hm", "content": None},
            {"thinking": {"text": "hm"}},
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]},
            {"reasoning_details": [{"type": "reasoning.text", "text": "hm"}], "content": ""},
        )
    )


def _usage(chance: random.Random) -> dict[str, Any]:
    counts: list[Any] = [3, "3", 3.0, None, 0, -1, [], "many"]
    return {
        "prompt_tokens": chance.choice(counts),
        "completion_tokens": chance.choice(counts),
        "prompt_tokens_details": chance.choice(ODD),
    }


def _line(chance: random.Random, event: dict[str, Any]) -> bytes:
    text = json.dumps(event, ensure_ascii=chance.random() < 0.5).encode()
    return chance.choice((b"data: ", b"data: ", b"data: ", b"data:", b"data:  ", b"data: data: ", b"")) + text


def _damaged(chance: random.Random, body: bytes) -> bytes:
    for _ in range(chance.randint(1, 4)):
        at = chance.randint(0, len(body))
        length = chance.choice((1, 1, 3, 40, len(body)))
        kind = chance.randrange(5)
        if kind == 0:
            body = body[:at] + body[at + length :]
        elif kind == 1:
            body = body[:at] + chance.randbytes(chance.randint(1, 9)) + body[at:]
        elif kind == 2:
            body = body[:at] + body[at : at + length] * 2 + body[at + length :]
        elif kind == 3:
            body = body[:at]
        else:
            error: Any = chance.choice(
                (
                    {"error": {"message": f"no {KEY}", "code": 500}},
                    {"error": "boom"},
                    {"object": "error", "message": "x"},
                )
            )
            body = body[:at] + b"\n\ndata: " + json.dumps(error).encode() + b"\n\n" + body[at:]
    return body


def _cut(chance: random.Random, body: bytes) -> list[bytes]:
    size = chance.choice((1, 7, 64, 1 << 20, 1 << 20))
    return [body[start : start + size] for start in range(0, len(body), size)]


class _Player:
    """Asks a server that answers with one case after the other."""

    def __init__(self) -> None:
        self._case: Case | None = None
        self._loop = LoopThread("fuzz")
        player = self

        class Scripted(Outgoing):
            def client(self, address: str, **rest: Any) -> httpx.AsyncClient:
                return httpx.AsyncClient(transport=_Transport(lambda: player._case), trust_env=False, **rest)

        self._server = ModelServer(RemoteServer("http://fuzz.example", KEY), Scripted(), self._loop, silence_s=20.0)
        self._requests = OpenAIRequests(Endpoint("http://fuzz.example", "m", False), 4)

    def play(self, case: Case) -> Completion | BaseException:
        """What comes of a case."""
        self._case = case

        async def not_found(refusal: EngineError) -> EngineError:
            return refusal

        def prepare(conversation: Conversation) -> Any:
            return self._server.asked(self._requests, conversation, time.monotonic() + 0.5, not_found)

        submit: Callable[[Any], Future[None]] = self._server.submit
        try:
            (completion,) = RemoteGeneration(prepare, submit, [CONVERSATION], Control()).run()
        except Exception as error:
            return error
        return completion if completion.error is None else EngineUnavailable(completion.error)

    def close(self) -> None:
        """Ends the thread."""
        self._loop.close(self._server.hang_up)


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
