"""Generates streams as providers send them, with random changes."""

from __future__ import annotations

import gzip
import json
import random
import zlib
from typing import Any, NamedTuple

from engine.interface import Conversation, Message, Sampling, TextPart

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
