"""The stream of a chat completion: events out of bytes, wherever the network cuts them, and what is in an event.

Servers differ in all of it. What can be understood is used: `odd_events` knows the forms that are not
OpenAI's, and what comes without any events, such as one whole answer, is read at its end.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from engine.errors import GenerationFailed
from http_client.loose_json import decoded

MAX_EVENT_BYTES = 4 << 20
MOST_JUNK_BYTES = 4_096
MOST_TRIES = 200
"""At decoding a text over several lines before its end."""
DONE = b"[DONE]"

_DATA = b"data:"
_BOM = b"\xef\xbb\xbf"
_FIELDS = (b"", b"event", b"id", b"retry")
"""Of an event, beside its data; a comment has no name."""


class FunctionPiece(msgspec.Struct, frozen=True):
    """The next piece of a call: its function's name, or more of the JSON text of its arguments."""

    name: str | None = None
    arguments: str | None = None


class CallPiece(msgspec.Struct, frozen=True):
    """A piece of one tool call; `id` and `index` say of which, as far as a server tells."""

    index: int | None = None
    id: str | None = None
    function: FunctionPiece | None = None


class Delta(msgspec.Struct, frozen=True):
    """What is new of the answer; servers call the reasoning by one name or the other.

    The fields without a type are those that only some servers have; `odd_events` reads them.
    """

    content: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[CallPiece] | None = None
    thinking: Any = None
    reasoning_text: Any = None
    reasoning_details: Any = None
    function_call: Any = None

    @property
    def is_odd(self) -> bool:
        """Whether there is something in it that `odd_events` knows better."""
        return (
            self.thinking is not None
            or self.reasoning_text is not None
            or self.reasoning_details is not None
            or self.function_call is not None
        )


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
    """One of the answers; we ask for one. `is_whole`: the delta is the whole answer so far, not the next piece."""

    delta: Delta | None = None
    logprobs: TokenEntries | None = None
    finish_reason: str | None = None
    is_whole: bool = False
    error: Any = None


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
    """Cuts bytes into events: lines of `data:` with JSON, lines of JSON alone, or one JSON text in all.

    Arguments: `max_bytes`, how long all of it may be.
    Attributes: `is_done`, whether the server said that nothing more comes; `n_events`, how many were understood;
    `n_unreadable`, how many were not; `junk`, the beginning of what has nothing of an answer in it.
    """

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes
        self._line = bytearray()
        self._held = bytearray()
        """The lines so far of an event, or of a whole answer, that is no JSON yet."""
        self._is_held_data = False
        self._is_error = False
        """Whether the event that is being read is called one."""
        self._n_tries = 0
        self._is_first = True
        self._ended_in_cr = False
        self.is_done = False
        self.n_events = 0
        self.n_unreadable = 0
        self.junk = b""

    def feed(self, data: bytes) -> Iterator[Chunk]:
        """The events that these bytes complete.

        Raises: `GenerationFailed` for what is too long.
        """
        if self._ended_in_cr and data.startswith(b"\n"):
            data = data[1:]
        self._ended_in_cr = data.endswith(b"\r")
        self._left -= len(data)
        if self._left < 0 or len(self._line) + len(self._held) > MAX_EVENT_BYTES:
            raise GenerationFailed("The server's answer is longer than it can be, and was not read on.")
        self._line += data
        if b"\n" not in data and b"\r" not in data:
            return
        whole = bytes(self._line)
        end = max(whole.rfind(b"\n"), whole.rfind(b"\r")) + 1
        self._line = bytearray(whole[end:])
        for line in whole[:end].splitlines():
            if self.is_done:
                return
            yield from self._of_line(line)

    def end(self) -> Iterator[Chunk]:
        """The events that the end of the bytes completes: a last line without an end, and a whole answer."""
        if self._line and not self.is_done:
            line = bytes(self._line)
            self._line = bytearray()
            yield from self._of_line(line)
        yield from self._of_held()

    def _of_line(self, line: bytes) -> Iterator[Chunk]:
        if self._is_first:
            line, self._is_first = line.removeprefix(_BOM), False
        line = line.strip()
        if not line:
            if self._is_held_data:
                yield from self._of_held()
            self._is_error = False
            return
        name, colon, value = line.partition(b":")
        name = name.strip().lower()
        if colon and name == b"data":
            while value.lstrip().startswith(_DATA):  # a gateway has written it twice
                value = value.lstrip().removeprefix(_DATA)
            yield from self._of_error(value.strip()) if self._is_error else self._of_data(value.strip())
        elif colon and name == b"event":
            self._is_error = value.strip().lower() == b"error"
        elif line == DONE:
            yield from self._of_data(line)
        elif not colon or name not in _FIELDS:
            yield from self._of_text(line)

    def _of_data(self, payload: bytes) -> Iterator[Chunk]:
        if not self._is_held_data and self._held:
            yield from self._of_held()
        if payload == DONE or payload.strip(b"\"' ") == DONE:
            yield from self._of_held()
            self.is_done = True
        elif payload:
            yield from self._decoded(payload, is_data=True)

    def _of_error(self, payload: bytes) -> Iterator[Chunk]:
        """The data of an event that is called an error, in whatever form."""
        told, is_json = decoded(payload)
        told = told if is_json else payload.decode("utf-8", "replace")
        if told and payload != DONE:
            self.n_events += 1
            yield Chunk(error=told)

    def _of_text(self, line: bytes) -> Iterator[Chunk]:
        """A line that is no field of an event: JSON alone, or a line of a JSON text, or nothing of the kind."""
        if self._is_held_data or self._held or line.startswith((b"{", b"[")):
            yield from self._decoded(line, is_data=self._is_held_data)
        elif len(self.junk) < MOST_JUNK_BYTES:
            self.junk += line[:MOST_JUNK_BYTES] + b"\n"

    def _decoded(self, payload: bytes, *, is_data: bool) -> Iterator[Chunk]:
        if self._held:
            self._held += b"\n" + payload
            # A JSON text over several lines is complete at a bracket that closes it; trying at each takes for ever.
            if payload.endswith((b"}", b"]")) and self._n_tries < MOST_TRIES:
                self._n_tries += 1
                held = bytes(self._held)
                chunks = chunks_of(held)
                if chunks is not None:
                    self._held, self._n_tries = bytearray(), 0
                    yield from self._counted(chunks, held)
                    return
            chunks = chunks_of(payload) if is_data and payload.startswith(b"{") else None
            if chunks is not None:  # what was held was broken, and this is the next event
                self._held, self.n_unreadable = bytearray(), self.n_unreadable + 1
                yield from self._counted(chunks, payload)
            return
        chunks = chunks_of(payload)
        if chunks is None:
            self._held, self._is_held_data = bytearray(payload), is_data
        else:
            yield from self._counted(chunks, payload)

    def _of_held(self) -> Iterator[Chunk]:
        """What the lines so far are, now that the event ends."""
        held, self._held, self._is_held_data, self._n_tries = bytes(self._held), bytearray(), False, 0
        if not held:
            return
        chunks = chunks_of(held)
        if chunks is None:
            self.n_unreadable += held.startswith((b"{", b"["))  # anything else is a note
            self.junk = self.junk or held[:MOST_JUNK_BYTES]
        else:
            yield from self._counted(chunks, held)

    def _counted(self, chunks: list[Chunk], payload: bytes) -> Iterator[Chunk]:
        self._is_held_data = False
        if not chunks and not self.junk:
            self.junk = payload[:MOST_JUNK_BYTES]
        for chunk in chunks:
            if chunk.choices or chunk.usage is not None or chunk.error is not None:
                self.n_events += 1
            elif not self.junk:
                self.junk = payload[:MOST_JUNK_BYTES]
            yield chunk


def has_word(finish_reason: str | None) -> bool:
    """Whether a server says that and why an answer has ended."""
    return finish_reason is not None and finish_reason.strip().lower() not in ("", "null", "none")


def chunks_of(payload: bytes) -> list[Chunk] | None:
    """The events in a JSON text, most often one; none in what only keeps the connection alive; `None` for no JSON."""
    try:
        chunk = msgspec.json.decode(payload, type=Chunk)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        chunk = None
    if chunk is not None and not _is_odd(chunk):
        return [chunk]
    from engine.odd_events import understood

    found, is_json = decoded(payload)
    return understood(found) if is_json else None


def _is_odd(chunk: Chunk) -> bool:
    """Whether there may be more in an event than its own form holds."""
    if chunk.error is not None or chunk.choices is None or chunk.usage == _NO_USAGE:
        return True
    if not chunk.choices:
        return chunk.usage is None
    delta = chunk.choices[0].delta
    return chunk.choices[0].error is not None or delta is None or delta == _NO_DELTA or delta.is_odd


_NO_DELTA, _NO_USAGE = Delta(), TokenUsage()
