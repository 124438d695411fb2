"""The responses that a stream must get: the rules of the protocol written again, without the server's own code.

It reads the lines that the server gets and says which response each needs: the id, and what the response may be
("result", or an error code). Where a message breaks several rules at once, any of their errors is right.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
Key = tuple[str, Any]
NO_ID: Key = ("no id", None)

LEGACY = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN = "2026-07-28"
WITH_BATCHES = "2025-03-26"
VERSION = "io.modelcontextprotocol/protocolVersion"
CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")

PARSE, REQUEST, METHOD, PARAMS, UNSUPPORTED, NOT_FOUND = -32700, -32600, -32601, -32602, -32022, -32002
MISSING_CAPABILITY = -32021
LEGACY_METHODS = ("initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe")
MODERN_METHODS = ("server/discover", "subscriptions/listen")
TASK_METHODS = {
    "2025-11-25": ("tasks/get", "tasks/result", "tasks/list", "tasks/cancel"),
    MODERN: ("tasks/get", "tasks/update", "tasks/cancel"),
}
"""Methods about tasks, by the revisions that have them."""
BOTH = (
    "tools/list",
    "tools/call",
    "resources/list",
    "resources/templates/list",
    "resources/read",
    "prompts/list",
    "prompts/get",
    "completion/complete",
)
RESULT = "result"
Outcome = str | int


@dataclass
class Due:
    """One response that the server owes.

    `when` is "now", "queued" (a cancellation may take it away) or "stream" (answered when the server ends). A `held`
    call ends only by being cancelled. `excused` means that a cancellation has taken it away, or came too late;
    `forgotten` that this was before the last stream. `progress` is the last figure told of it.
    """

    key: Key
    outcomes: frozenset[Outcome]
    line: bytes
    method: str = ""
    revision: str = LEGACY[0]
    when: str = "now"
    held: bool = False
    token: Key | None = None
    excused: bool = False
    forgotten: bool = False
    progress: float = 0.0


@dataclass(frozen=True)
class Cancel:
    """A cancellation of the oldest queued request with that id."""

    key: Key


@dataclass
class Oracle:
    """The protocol's memory: the legacy revision that was settled on, and whether that has happened; and the tools.

    `held_text` is what a chat says that ends only when it is cancelled; `max_line_bytes` is the longest line that is
    read.
    """

    tools: frozenset[str]
    held_text: str
    max_line_bytes: int
    settled: str = LEGACY[0]
    initialized: bool = False
    asked_for: set[str] = field(default_factory=set)
    """Notifications that some message has asked for so far."""

    def events(self, stream: bytes) -> Iterator[Due | Cancel]:
        """The responses and cancellations that the lines of a stream lead to, in order."""
        for line in stream.split(b"\n")[:-1]:
            if len(line) > self.max_line_bytes:
                yield _error(NO_ID, line, REQUEST)
            elif line.strip():
                yield from self._of_line(line.strip())

    def _of_line(self, line: bytes) -> Iterator[Due | Cancel]:
        try:
            value = decoded(line)
        except ValueError:
            yield _error(NO_ID, line, PARSE)
            return
        if not isinstance(value, list):
            yield from self._of_message(value, line)
        elif not value or self.settled != WITH_BATCHES:
            yield _error(NO_ID, line, REQUEST)
        else:
            for item in value:
                if isinstance(item, dict) and item.get("method") == "initialize" and key_of(item.get("id")):
                    yield _error(key_of(item.get("id")) or NO_ID, line, REQUEST, PARAMS)
                else:
                    yield from self._of_message(item, line)

    def _of_message(self, value: Any, line: bytes) -> Iterator[Due | Cancel]:
        if not isinstance(value, dict):
            yield _error(NO_ID, line, REQUEST)
            return
        method, key = value.get("method"), key_of(value.get("id"))
        if key is None:
            yield _error(key_of(None) or NO_ID, line, REQUEST)
        elif method is None and ("result" in value or "error" in value):
            return
        elif not isinstance(method, str):
            yield _error(key, line, REQUEST)
        elif method.startswith("notifications/"):
            params = value.get("params")
            if method == "notifications/cancelled" and isinstance(params, dict) and "requestId" in params:
                cancelled = key_of(params["requestId"])
                if cancelled is not None:
                    yield Cancel(cancelled)
        else:
            yield self._of_request(method, key, value, line)

    def _of_request(self, method: str, key: Key, value: Json, line: bytes) -> Due:
        params = {} if value.get("params") is None else value["params"]
        wrong: set[int] = set()
        if value.get("jsonrpc", "2.0") != "2.0":
            wrong.add(REQUEST)
        if not isinstance(params, dict):
            return _error(key, line, PARAMS, *wrong)
        meta = params["_meta"] if isinstance(params.get("_meta"), dict) else {}
        modern = VERSION in meta
        if modern and meta[VERSION] != MODERN:
            wrong.add(UNSUPPORTED)
        if (modern or CAPABILITIES in meta) and not (modern and isinstance(meta.get(CAPABILITIES), dict)):
            wrong.add(PARAMS)
        if method in MODERN_METHODS and not modern and not self.initialized:
            wrong.add(PARAMS)  # of a modern client, which forgot its envelope
        elif method not in self._known_methods(modern):
            wrong.add(METHOD)
        if wrong:
            return _error(key, line, *wrong)
        revision = MODERN if modern else self.settled
        due = Due(key, frozenset(self._outcomes(method, params, modern)), line, method, revision)
        if due.outcomes >= {RESULT}:
            self._follow(due, params, meta)
        return due

    def _known_methods(self, modern: bool) -> tuple[str, ...]:
        tasks = TASK_METHODS.get(MODERN if modern else self.settled, ())
        return BOTH + (MODERN_METHODS if modern else LEGACY_METHODS) + tasks

    def _outcomes(self, method: str, params: Json, modern: bool) -> Iterable[Outcome]:
        """What the response to a valid request may be. No request begins a task, or has the extension for them."""
        if method.startswith("tasks/") and method != "tasks/list":
            return [MISSING_CAPABILITY if modern else PARAMS]
        if method in ("initialize", "ping", "server/discover"):
            return [RESULT]
        if method == "logging/setLevel":
            return [RESULT if params.get("level") in LEVELS else PARAMS]
        if method == "tools/call":
            name, arguments = params.get("name"), params.get("arguments")
            known = isinstance(name, str) and name in self.tools
            return [RESULT if known and _are_arguments(arguments) else PARAMS]
        if method.endswith("/list"):
            return [RESULT] if params.get("cursor") is None else [RESULT, PARAMS]
        if method == "resources/read" or "subscribe" in method:
            return [RESULT, PARAMS, NOT_FOUND, REQUEST] if isinstance(params.get("uri"), str) else [PARAMS, REQUEST]
        return [RESULT, PARAMS] if method != "subscriptions/listen" else [RESULT, PARAMS, REQUEST]

    def _follow(self, due: Due, params: Json, meta: Json) -> None:
        """Records the effects of a request other than its response."""
        if due.method == "initialize":
            wanted = params.get("protocolVersion")
            self.settled = wanted if isinstance(wanted, str) and wanted in LEGACY else LEGACY[-1]
            self.initialized = True
        elif due.method == "logging/setLevel":
            self.asked_for.add("notifications/message")
        elif due.method == "subscriptions/listen":
            due.when = "stream"
            self.asked_for |= {
                "notifications/subscriptions/acknowledged",
                "notifications/resources/updated",
                "notifications/resources/list_changed",
            }
        elif due.method == "resources/subscribe":
            self.asked_for.add("notifications/resources/updated")
        elif due.method == "tools/call" or str(params.get("uri")).startswith("vllm://sessions/"):
            due.when = "queued"
            due.held = due.method == "tools/call" and self._holds(params)
            token = meta.get("progressToken")
            due.token = key_of(token) if token is not None else None
            if "io.modelcontextprotocol/logLevel" in meta:
                self.asked_for.add("notifications/message")

    def _holds(self, params: Json) -> bool:
        return params.get("name") == "chat_completion" and params.get("arguments") == held_arguments(self.held_text)


def _are_arguments(given: Any) -> bool:
    """Whether a call may have these arguments: an object, nothing, or either of them as text."""
    if isinstance(given, str):
        try:
            given = json.loads(given) if given.strip() else None
        except (ValueError, RecursionError):
            return False
    return given is None or isinstance(given, dict)


def held_arguments(text: str) -> Json:
    """The arguments of a chat that ends only when it is cancelled."""
    return {"messages": [{"role": "user", "content": text}]}


def key_of(request_id: Any) -> Key | None:
    """An id with its type, since 1, 1.0, true and "1" differ; None for a value that is no id."""
    if isinstance(request_id, bool | list | dict):
        return None
    return (type(request_id).__name__, request_id)


def decoded(line: bytes) -> Any:
    """The value of a line.

    Raises: `ValueError` for what is not strict JSON in UTF-8, has a number that no double holds, or is too deep.
    """
    text = line.removeprefix(b"\xef\xbb\xbf").decode()
    if text[:1] == "\ufeff":
        raise ValueError("two byte order marks")
    try:
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise ValueError("too deep") from None
    return _mended(value) if "\\u" in text else value


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _finite(text: str) -> float:
    number = float(text)
    return number if abs(number) != float("inf") else _refuse(text)


def _mended(value: Any) -> Any:
    """The text with U+FFFD for lone surrogates, which cannot be sent."""
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, dict):
        return {_mended(name): _mended(item) for name, item in value.items()}
    return [_mended(item) for item in value] if isinstance(value, list) else value


def _error(key: Key, line: bytes, *codes: int) -> Due:
    return Due(key, frozenset(codes), line)
