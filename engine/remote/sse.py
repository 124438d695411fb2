"""Server-sent events of a chat completion: cuts the bytes of a response into events and decodes them.

Servers deviate from OpenAI's format in many ways: `odd_events` reads other formats. A response without events, such as
a whole completion, is read at its end.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from engine.errors import GenerationFailed
from engine.remote.chunks import Chunk, Delta, TokenUsage
from engine.remote.odd_events import understood
from http_client.loose_json import decoded

MAX_EVENT_BYTES = 4 << 20
MAX_JUNK_BYTES = 4_096
MAX_TRIES = 200
"""How often an event of several lines is decoded before its end."""
DONE = b"[DONE]"

_DATA = b"data:"
_BOM = b"\xef\xbb\xbf"
_FIELDS = (b"", b"event", b"id", b"retry")
"""Fields of an event other than `data`; a comment has the name ""."""


class EventStream:
    """Cuts bytes into events: lines of `data:` with JSON, lines of JSON alone, or a single JSON text.

    Arguments:
        max_bytes: the maximum length of the stream.

    Attributes:
        is_done: whether the server sent `[DONE]`.
        n_events: how many events were decoded.
        n_unreadable: how many events could not be decoded.
        junk: the beginning of data that contains no event.
    """

    def __init__(self, max_bytes: int) -> None:
        self._left = max_bytes
        self._line = bytearray()
        self._held = bytearray()
        """The lines so far of an event, or of a whole completion, that is not complete JSON yet."""
        self._is_held_data = False
        self._is_error = False
        """Whether the current event is named `error`."""
        self._n_tries = 0
        self._is_first = True
        self._ended_in_cr = False
        self.is_done = False
        self.n_events = 0
        self.n_unreadable = 0
        self.junk = b""

    def feed(self, data: bytes) -> Iterator[Chunk]:
        """The events that these bytes complete; raises `GenerationFailed` for a stream or an event that is too long."""
        if self._ended_in_cr and data.startswith(b"\n"):
            data = data[1:]
        self._ended_in_cr = data.endswith(b"\r")
        self._left -= len(data)
        if self._left < 0 or len(self._line) + len(self._held) > MAX_EVENT_BYTES:
            raise GenerationFailed("The server's response is longer than max_tokens allows; the rest was not read.")
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
        """The events that the end of the stream completes: a last line without a line break, or a whole completion."""
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
            while value.lstrip().startswith(_DATA):  # some gateways write it twice
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
        """The data of an event named `error`, in any form."""
        error, is_json = decoded(payload)
        error = error if is_json else payload.decode("utf-8", "replace")
        if error and payload != DONE:
            self.n_events += 1
            yield Chunk(error=error)

    def _of_text(self, line: bytes) -> Iterator[Chunk]:
        """A line that is not a field of an event: JSON, a line of a longer JSON text, or neither."""
        if self._is_held_data or self._held or line.startswith((b"{", b"[")):
            yield from self._decoded(line, is_data=self._is_held_data)
        elif len(self.junk) < MAX_JUNK_BYTES:
            self.junk += line[:MAX_JUNK_BYTES] + b"\n"

    def _decoded(self, payload: bytes, *, is_data: bool) -> Iterator[Chunk]:
        if self._held:
            self._held += b"\n" + payload
            # JSON of several lines may be complete at a closing bracket; trying at every one is quadratic.
            if payload.endswith((b"}", b"]")) and self._n_tries < MAX_TRIES:
                self._n_tries += 1
                held = bytes(self._held)
                chunks = chunks_of(held)
                if chunks is not None:
                    self._held, self._n_tries = bytearray(), 0
                    yield from self._counted(chunks, held)
                    return
            chunks = chunks_of(payload) if is_data and payload.startswith(b"{") else None
            if chunks is not None:  # the held event is broken, and this is the next one
                self._held, self.n_unreadable = bytearray(), self.n_unreadable + 1
                yield from self._counted(chunks, payload)
            return
        chunks = chunks_of(payload)
        if chunks is None:
            self._held, self._is_held_data = bytearray(payload), is_data
        else:
            yield from self._counted(chunks, payload)

    def _of_held(self) -> Iterator[Chunk]:
        """Decodes the held lines at the end of their event."""
        held, self._held, self._is_held_data, self._n_tries = bytes(self._held), bytearray(), False, 0
        if not held:
            return
        chunks = chunks_of(held)
        if chunks is None:
            self.n_unreadable += held.startswith((b"{", b"["))  # other text is not an event
            self.junk = self.junk or held[:MAX_JUNK_BYTES]
        else:
            yield from self._counted(chunks, held)

    def _counted(self, chunks: list[Chunk], payload: bytes) -> Iterator[Chunk]:
        self._is_held_data = False
        if not chunks and not self.junk:
            self.junk = payload[:MAX_JUNK_BYTES]
        for chunk in chunks:
            if chunk.choices or chunk.usage is not None or chunk.error is not None:
                self.n_events += 1
            elif not self.junk:
                self.junk = payload[:MAX_JUNK_BYTES]
            yield chunk


def chunks_of(payload: bytes) -> list[Chunk] | None:
    """The events in a JSON text: usually one, none in a keep-alive; `None` where it is not JSON."""
    try:
        chunk = msgspec.json.decode(payload, type=Chunk)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        chunk = None
    if chunk is not None and not _is_odd(chunk):
        return [chunk]
    value, is_json = decoded(payload)
    return understood(value) if is_json else None


def _is_odd(chunk: Chunk) -> bool:
    """Whether an event may contain more than the fields of `Chunk`."""
    if chunk.error is not None or chunk.choices is None or chunk.usage == _NO_USAGE:
        return True
    if not chunk.choices:
        return chunk.usage is None
    delta = chunk.choices[0].delta
    return chunk.choices[0].error is not None or delta is None or delta == _NO_DELTA or delta.is_odd


_NO_DELTA, _NO_USAGE = Delta(), TokenUsage()
