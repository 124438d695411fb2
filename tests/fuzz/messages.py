"""Streams of messages, which Hypothesis draws and shrinks.

`"#7"` and `"s#7"` in a message stand for an id of its own: where a stream is played, each becomes a number, or a string
with one, that was not used before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.fuzz import json_values
from tests.fuzz.json_values import ODD, draw_spoilt, nested, odd
from tests.fuzz.junk import JUNK
from tests.fuzz.oracle import (
    BOTH,
    CAPABILITIES,
    LEGACY,
    LEGACY_METHODS,
    LEVELS,
    MODERN,
    MODERN_METHODS,
    TASK_METHODS,
    VERSION,
    held_arguments,
)
from tests.fuzz.scripted_server import HELD

Json = dict[str, Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]

MAX_ITEMS = 40
LONG_BYTES = 4_096
"""Lines up to this length are read in one pass (`mcp_protocol.jsonrpc.SHORT_BYTES`)."""
FRESH = "a process of its own"
NO_MEMBER = object()
IDS_AN_ITEM = 16
IDS_A_STREAM = IDS_AN_ITEM * MAX_ITEMS

IDS: tuple[Any, ...] = (
    0,
    1,
    -1,
    1.5,
    1.0,
    2**53 + 1,
    2**70,
    -0.0,
    "",
    "0",
    "1",
    "é\u2028\n",
    "\ud83d",
    "x" * 5_000,
    None,
)
NOT_IDS: tuple[Any, ...] = (True, False, [], {}, [1], {"id": 1})
URIS = (
    "vllm://model",
    "vllm://docs/README.md",
    "vllm://sessions/s",
    "vllm://sessions/%00",
    "vllm://sessions/" + "x" * 9_000,
    "vllm://models/..%2F..",
    "ui://vllm/media-0.html",
    "ui://vllm/../x",
    "file:///etc/passwd",
    "file:",
    "",
    "http://127.0.0.1/",
    "\ud83d",
)
PROMPTS = ("describe_picture", "describe_picture", "compare_pictures", "extract_json", "no_such")
COMPLETED = ("picture", "session_id", "model", "language", "x", 5)
REFS = (
    {"type": "ref/prompt", "name": "describe_picture"},
    {"type": "ref/resource", "uri": "vllm://sessions/{session_id}"},
    {"type": "ref/resource", "uri": "vllm://models/{model}"},
    {"type": "ref/prompt", "name": 5},
    {"type": "ref/x"},
    None,
)
CURSORS = (None, "", "00", b"tools:100".hex(), b"resources:100".hex(), 5)
CLIENT = {"name": "fuzz", "version": "1"}
APPS: Json = {"extensions": {"io.modelcontextprotocol/ui": {}}}
"""The capabilities of a client with MCP Apps."""
NOTIFICATIONS = (
    "notifications/initialized",
    "notifications/cancelled",
    "notifications/progress",
    "notifications/roots/list_changed",
    "notifications/",
    "notifications/unknown",
)
KINDS = (
    *("request",) * 5,
    *("call",) * 4,
    *("mutated",) * 2,
    "spoilt",
    "spoilt params",
    "junk",
    "random",
    "held",
    "notification",
    "answer",
    "batch",
    "cancelled",
)
"""What an item is, the common ones more often."""


@dataclass(frozen=True)
class Stream:
    """Lines, each with its newline, and how they are written.

    `version` is what `initialize` settles before them, or `FRESH` for a new process that nobody initialized. `cuts`
    are places, as shares of the whole, between which the bytes are written one piece after another; none for one
    write, "bytes" for each byte alone.
    """

    version: str
    lines: tuple[bytes, ...]
    cuts: tuple[float, ...] | str


def streams(tools: Sequence[Json], images: Sequence[str]) -> st.SearchStrategy[Stream]:
    """Streams for a server with these tools (as `tools/list` shows them); `images` are paths of real ones."""
    arguments = {tool["name"]: json_values.objects(tool["inputSchema"], images) for tool in tools}

    @st.composite
    def draw_item(draw: Draw) -> list[bytes]:
        return Author(draw, arguments).item()

    @st.composite
    def draw_stream(draw: Draw) -> Stream:
        version = draw(st.sampled_from([*LEGACY * 12, FRESH]))
        items = [draw(draw_item()) for _ in range(draw(st.integers(1, MAX_ITEMS)))]
        lines = tuple(_renumbered(line, i * IDS_AN_ITEM) for i, item in enumerate(items) for line in item)
        cuts: tuple[float, ...] | str = ()
        how = draw(st.integers(0, 9))
        if how == 9 and sum(map(len, lines)) < 6_000:
            cuts = "bytes"
        elif how > 5:
            cuts = tuple(sorted(draw(st.lists(st.floats(0, 1), min_size=1, max_size=20))))
        return Stream(version, lines, cuts)

    return draw_stream()


class Author:
    """Draws one action of a client: usually one line, sometimes several that belong together."""

    def __init__(self, draw: Draw, arguments: dict[str, st.SearchStrategy[Json]]) -> None:
        self._draw = draw
        self._arguments = arguments
        self._n_marks = 0

    def item(self) -> list[bytes]:
        """The lines of one action."""
        kind = self._pick("request", "call", *KINDS)
        message: Any
        if kind == "junk":
            return [self._pick(*JUNK) + b"\n"]
        if kind == "random":
            return [self._draw(st.binary(max_size=30)).replace(b"\n", b"") + b"\n"]
        if kind == "held":
            return self._held()
        if kind == "notification":
            params = {"requestId": self._pick(*ODD, *IDS)} if self._draw(st.booleans()) else self._draw(odd)
            return [self._line({"method": self._pick(*NOTIFICATIONS), "params": params})]
        if kind == "answer":
            return [self._line(_present({"id": self._id(), self._pick("result", "error"): self._draw(odd)}))]
        if kind == "batch":
            return [self._line([self._request() for _ in range(self._number(1, 4))])]
        message = self._call() if kind in ("call", "cancelled") else self._request()
        if kind == "spoilt":
            message = draw_spoilt(self._draw, message)
        if kind == "spoilt params":
            message["params"] = draw_spoilt(self._draw, message["params"])
        line = self._line(message)
        if kind == "mutated":
            return [self._mutated(line)]
        return [line, _cancel(message.get("id"))] if kind == "cancelled" else [line]

    def _pick(self, *values: Any) -> Any:
        return self._draw(st.sampled_from(values))

    def _number(self, low: int, high: int) -> int:
        number: int = self._draw(st.integers(low, high))
        return number

    def _mark(self, prefix: str = "") -> str:
        self._n_marks += 1
        return f"{prefix}#{self._n_marks % IDS_AN_ITEM}"

    def _id(self) -> Any:
        kind = self._number(0, 9)
        if kind < 8:
            return self._mark("" if kind < 6 else "s")
        return self._pick(*IDS) if kind == 8 else self._pick(*NOT_IDS, NO_MEMBER)

    def _meta(self) -> Any:
        """Usually none or a whole envelope; sometimes with a token, half of one, or junk."""
        kind = self._number(0, 11)
        if kind < 5:
            return NO_MEMBER
        if kind < 8:
            return envelope()
        if kind == 8:
            return {**envelope(), "io.modelcontextprotocol/logLevel": self._pick("debug", "error", 5)}
        if kind == 9:
            token = self._pick(self._mark(), 0, "", True, {})
            return {**(envelope() if self._draw(st.booleans()) else {}), "progressToken": token}
        if kind == 10:
            return self._draw(odd)
        version = self._pick(MODERN, "2027-01-01", "2025-11-25", 5, [], None, nested(300), "x" * 20_000)
        return {VERSION: version, **self._pick({}, {CAPABILITIES: {}}, {CAPABILITIES: 5})}

    def _request(self) -> Json:
        about_tasks = {method for methods in TASK_METHODS.values() for method in methods}
        method = self._pick(
            *BOTH, *LEGACY_METHODS, *MODERN_METHODS, *sorted(about_tasks), "ping", "no/such", "", "x" * 500
        )
        return self._message(method, self._params(method))

    def _call(self) -> Json:
        name = self._pick(*self._arguments, "chat_completion", "chat_completion")
        arguments = self._draw(self._arguments[name])
        if name == "chat_completion" and self._draw(st.booleans()):
            arguments = {"session_id": self._pick("s", "t", "u"), **arguments}
        return self._message("tools/call", {"name": name, "arguments": arguments})

    def _message(self, method: str, params: Json) -> Json:
        request_id, meta = self._id(), self._meta()
        if method in MODERN_METHODS and self._number(0, 4):
            meta = envelope()
        with_meta = params if meta is NO_MEMBER else {**params, "_meta": meta}
        return _present({"jsonrpc": "2.0", "id": request_id, "method": method, "params": with_meta})

    def _params(self, method: str) -> Json:
        if method == "initialize":
            return {"protocolVersion": self._pick(*LEGACY, MODERN, "x", 5, None), "clientInfo": CLIENT}
        if method == "logging/setLevel":
            return {"level": self._pick(*LEVELS, "loud", 5, [], None)}
        if method.endswith("/list"):
            return {} if self._number(0, 3) else {"cursor": self._pick(*CURSORS)}
        if method.startswith("tasks/"):
            return {"taskId": self._pick("task_0", "", "x" * 500, 5, None, []), "inputResponses": self._pick({}, 5)}
        if method.startswith("resources/"):
            return {"uri": self._pick(*URIS, 5, None)}
        if method == "prompts/get":
            names = st.sampled_from(("picture", "question", "schema", "fields", "first", "x"))
            value = st.one_of(st.sampled_from(("/a.png", "what?", "{}", "[", "name, age")), odd)
            given = self._draw(st.dictionaries(names, value, max_size=3)) | {"picture": "/a.png"}
            return {"name": self._pick(*PROMPTS, 5), "arguments": self._pick(given, given, None, [])}
        if method == "completion/complete":
            if self._number(0, 2):
                ref, name = self._pick(*zip(REFS[:3], COMPLETED[:3], strict=True))
                return {"ref": ref, "argument": {"name": name, "value": self._pick("", "/", "s", "/etc/", "\0")}}
            argument = {"name": self._pick(*COMPLETED), "value": self._pick("", "/", "s", "\0", "/etc/", 5)}
            return {"ref": self._pick(*REFS), "argument": self._pick(argument, argument, argument, 5)}
        if method == "subscriptions/listen":
            uris = self._draw(st.lists(st.sampled_from(URIS), max_size=3))
            wanted = {"resourceSubscriptions": uris, "resourcesListChanged": True}
            return {"notifications": self._pick(wanted, wanted, {}, {"resourceSubscriptions": 5}, None)}
        if method == "tools/call":
            return {"name": self._pick("model_info", "no_such", 5, None), "arguments": self._pick({}, None, [], "", 5)}
        return {}

    def _held(self) -> list[bytes]:
        """A call that ends only when it is cancelled, maybe something in between, and its cancellation."""
        meta = {**(envelope() if self._draw(st.booleans()) else {}), "progressToken": self._mark()}
        params = {"name": "chat_completion", "arguments": held_arguments(HELD), "_meta": meta}
        request_id = self._mark(self._pick("", "s"))
        call = encoded({"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params})
        between = [self._line(self._request())] if self._draw(st.booleans()) else []
        return [call, *between, _cancel(request_id)]

    def _line(self, message: Any) -> bytes:
        """A message as clients write it: escaped or in UTF-8, with spaces or without, with any line end."""
        how = self._number(0, 7)
        line = encoded(message, escape=how != 1)
        if not _is_read_whole(line):
            line = encoded(message)
        if how == 2:
            return b" \t" + line[:-1] + b" \r\n"
        return line if how != 3 else b"\xef\xbb\xbf" + line[:-1] + b"\r\n"

    def _mutated(self, line: bytes) -> bytes:
        """A line with some bytes lost, doubled, replaced or cut off; it keeps its newline."""
        body = line[:-1]
        for _ in range(self._number(1, 3)):
            begin = int(self._draw(st.floats(0, 1)) * len(body))
            end = begin + self._number(0, 6)
            how = self._pick("lose", "double", "replace", "cut")
            if how == "lose":
                body = body[:begin] + body[end:]
            elif how == "double":
                body = body[:end] + body[begin:]
            elif how == "replace":
                body = body[:begin] + self._draw(st.binary(min_size=1, max_size=3)) + body[end:]
            else:
                body = body[:begin]
        mutated = body.replace(b"\n", b"") + b"\n"
        return mutated if _is_read_whole(mutated) else line


def envelope(capabilities: Json | None = None) -> Json:
    """The `_meta` of a modern request, from a client with these capabilities."""
    return {VERSION: MODERN, CAPABILITIES: capabilities or {}, "io.modelcontextprotocol/clientInfo": CLIENT}


def encoded(message: Any, escape: bool = True) -> bytes:
    """A message as one line."""
    return json.dumps(message, ensure_ascii=escape).encode("utf-8", "surrogatepass") + b"\n"


def _is_read_whole(line: bytes) -> bool:
    """Whether the server reads the line in one pass: what a long one says besides its id is found to be no UTF-8 only
    later, by which time the error has the id, as tests of their own check."""
    if len(line) <= LONG_BYTES:
        return True
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _present(message: Json) -> Json:
    return {name: value for name, value in message.items() if value is not NO_MEMBER}


def _cancel(request_id: Any) -> bytes:
    return encoded({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": request_id}})


_MARK = re.compile(rb'"(s?)#(\d+)"')


def _renumbered(line: bytes, by: int) -> bytes:
    return _MARK.sub(lambda match: b'"%s#%d"' % (match[1], int(match[2]) + by), line)


def with_ids(stream: Stream, first: int) -> list[bytes]:
    """The stream's lines with numbers from `first` on in place of the marks."""

    def number(match: re.Match[bytes]) -> bytes:
        shown = int(match[2]) + first
        return b'"s%d"' % shown if match[1] else b"%d" % shown

    return [_MARK.sub(number, line) for line in stream.lines]
