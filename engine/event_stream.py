"""The stream of a chat completion: events out of bytes, wherever the network cuts them, and what is in an event."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from engine.errors import GenerationFailed

MAX_EVENT_BYTES = 4 << 20
DONE = b"[DONE]"

_DATA = b"data:"


class FunctionPiece(msgspec.Struct, frozen=True):
    """The next piece of a call: its function's name, or more of the JSON text of its arguments."""

    name: str | None = None
    arguments: str | None = None


class CallPiece(msgspec.Struct, frozen=True):
    """A piece of one tool call; `index` says of which."""

    index: int | None = None
    id: str | None = None
    function: FunctionPiece | None = None


class Delta(msgspec.Struct, frozen=True):
    """What is new of the answer; servers call the reasoning by one name or the other."""

    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[CallPiece] | None = None


class LikelyToken(msgspec.Struct, frozen=True):
    """One of the likeliest tokens of a place."""

    token: str
    logprob: float


class TokenEntry(msgspec.Struct, frozen=True):
    """One token of the answer with its log-probability."""

    token: str
    logprob: float
    top_logprobs: list[LikelyToken] | None = None


class TokenEntries(msgspec.Struct, frozen=True):
    """The log-probabilities of the new tokens."""

    content: list[TokenEntry] | None = None


class Choice(msgspec.Struct, frozen=True):
    """One of the answers; we ask for one."""

    delta: Delta | None = None
    logprobs: TokenEntries | None = None
    finish_reason: str | None = None


class PromptDetails(msgspec.Struct, frozen=True):
    """What the prompt's tokens were, where the server tells."""

    cached_tokens: int | None = None
    multimodal_tokens: dict[str, int] | None = None


class TokenUsage(msgspec.Struct, frozen=True):
    """Tokens so far."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: PromptDetails | None = None


class Chunk(msgspec.Struct, frozen=True):
    """One event of the stream."""

    choices: list[Choice] | None = None
    usage: TokenUsage | None = None
    error: Any = None


class EventStream:
    """Cuts bytes into events. Each event is one line of `data:` with JSON, as all servers of this API send them.

    Arguments: `max_bytes`, how long all of it may be.
    """

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes
        self._line = bytearray()
        self.is_done = False

    def feed(self, data: bytes) -> Iterator[Chunk]:
        """The events that these bytes complete.

        Raises: `GenerationFailed` for what is no such stream, or too long.
        """
        self._left -= len(data)
        if self._left < 0 or len(self._line) > MAX_EVENT_BYTES:
            raise GenerationFailed("The server's answer is longer than it can be, and was not read on.")
        self._line += data
        if b"\n" not in data:
            return
        *lines, rest = bytes(self._line).split(b"\n")
        self._line = bytearray(rest)
        for line in lines:
            line = line.strip()
            if not line.startswith(_DATA) or self.is_done:
                continue  # a comment, an event's name, or the empty line after it
            payload = line[len(_DATA) :].strip()
            if payload == DONE:
                self.is_done = True
            elif payload:
                yield _chunk(payload)


def _chunk(payload: bytes) -> Chunk:
    try:
        return msgspec.json.decode(payload, type=Chunk)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise GenerationFailed(
            "The server sent a piece of an answer that is not what an OpenAI-compatible server sends. Check "
            "its address, and whether something between here and the server changes answers."
        ) from None
