"""JSON-RPC 2.0 messages: decoding one line, and encoding one.

Protocol errors are `ProtocolError`; a failed tool is a result, not an error.
"""

from __future__ import annotations

import codecs
from typing import Any

import msgspec
from msgspec import Raw

from mcp_protocol.raw_json import decoded, object_bytes

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603

Json = dict[str, Any]

NO_ID: Any = msgspec.UNSET
"""The id of an error response to a line without a readable id: the member is omitted."""


class ProtocolError(Exception):
    """A JSON-RPC error response; `request_id` is `NO_ID` if no id could be read."""

    def __init__(self, code: int, message: str, data: Json | None = None, request_id: Any = NO_ID) -> None:
        super().__init__(message)
        self.code = code
        self.data = data
        self.request_id = request_id


class Request(msgspec.Struct, frozen=True):
    """A message that gets exactly one response; `id` is None if the client sent none.

    In the `params` of a long `tools/call`, `arguments` are undecoded (`Raw`).
    """

    id: Any
    method: str
    params: Json


class Notification(msgspec.Struct, frozen=True):
    """A message that gets no response."""

    method: str
    params: Json


class Response(msgspec.Struct, frozen=True):
    """A client's response to a request of the server; one without `error` has a `result`, which may be missing."""

    id: Any
    result: Any = None
    error: Any = None


class Batch(msgspec.Struct, frozen=True):
    """Several messages in one line, to be parsed one by one with `message_of`; those of a long line are `Raw`."""

    items: list[Any]


Message = Request | Notification | Response | Batch

SHORT_BYTES = 4_096
"""Longer messages keep their arguments undecoded."""
MAX_OBJECT_BYTES = 128 << 20
"""Memory limit for decoding the parts of a long message other than a tool's arguments."""
TOOL_CALL = "tools/call"

_BOM = b"\xef\xbb\xbf"


def parse(line: bytes) -> Message:
    """Parses one line; raises `ProtocolError`, with the id if one could be read."""
    line = line.removeprefix(_BOM)
    try:
        value = decoded(line) if len(line) <= SHORT_BYTES else _long_value(line)
    except RecursionError:
        raise ProtocolError(PARSE_ERROR, "Parse error: the JSON is nested too deeply") from None
    except ValueError as error:
        raise ProtocolError(PARSE_ERROR, f"Parse error: {error}") from None
    except MemoryError:
        raise ProtocolError(INTERNAL_ERROR, "Internal error: not enough memory for a message of this size") from None
    return Batch(value) if isinstance(value, list) else message_of(value)


_ABSENT = Raw(b"null")


class _Envelope(msgspec.Struct):
    id: Raw = Raw(b"null")
    method: Raw = Raw(b"null")
    result: Raw = _ABSENT  # `Raw | None` accepts null alone
    error: Raw = _ABSENT


class _CallParams(msgspec.Struct):
    name: Raw = Raw(b"null")
    arguments: Raw = Raw(b"null")
    task: Raw = Raw(b"null")
    meta: Raw = msgspec.field(default=Raw(b"null"), name="_meta")
    state: Raw = msgspec.field(default=_ABSENT, name="requestState")
    responses: Raw = msgspec.field(default=_ABSENT, name="inputResponses")


class _CallEnvelope(msgspec.Struct):
    params: _CallParams
    jsonrpc: Raw = Raw(b'"2.0"')
    id: Raw = Raw(b"null")
    method: Raw = Raw(b"null")


def _long_value(line: bytes) -> Any:
    """Decodes a long line, except the arguments of a tool and the messages of a batch."""
    try:
        call = decoded(line, _CallEnvelope)  # the usual case, decoded in one pass
    except msgspec.ValidationError:
        return _other_long_value(line)
    request_id = _simple(call.id, NO_ID)
    if _simple(call.method, request_id) != TOOL_CALL:
        return _other_long_value(line)
    params = call.params
    arguments = params.arguments
    answers = {"requestState": params.state, "inputResponses": params.responses}
    return {
        "jsonrpc": _bounded(call.jsonrpc, request_id),
        "id": request_id,
        "method": TOOL_CALL,
        "params": {
            "name": _simple(params.name, request_id),
            "arguments": arguments if _is_object(arguments) else _simple(arguments, request_id),
            "task": _bounded(params.task, request_id),
            "_meta": _bounded(params.meta, request_id),
            **{name: _bounded(raw, request_id) for name, raw in answers.items() if raw is not _ABSENT},
        },
    }


def _other_long_value(line: bytes) -> Any:
    try:
        envelope = decoded(line, _Envelope)
    except msgspec.ValidationError:  # not an object
        _check_size(line, NO_ID)
        value = decoded(line, list[Raw]) if line[:64].lstrip()[:1] == b"[" else decoded(line)
        return [raw.copy() for raw in value] if isinstance(value, list) else value
    request_id = _simple(envelope.id, NO_ID)
    method = _simple(envelope.method, request_id)
    if isinstance(request_id, list) or isinstance(method, list):
        return {"id": request_id, "method": method}  # invalid, whatever the rest is
    if method is None and (envelope.result is not _ABSENT or envelope.error is not _ABSENT):
        return {"id": request_id, "result": None}  # a response of the client; no valid one is so long
    _check_size(line, request_id)
    return decoded(line)


def _is_object(raw: Raw) -> bool:
    return bytes(memoryview(raw)[:1]) == b"{"


def _simple(raw: Raw, request_id: Any) -> Any:
    """A value that must be a string or a number; a list or object, which is invalid, becomes an empty list."""
    return [] if bytes(memoryview(raw)[:1]) in (b"{", b"[") else _bounded(raw, request_id)


def _bounded(raw: Raw, request_id: Any) -> Any:
    _check_size(raw, request_id)
    return decoded(raw)


def _check_size(data: bytes | Raw, request_id: Any) -> None:
    """Raises `ProtocolError` for JSON that would take too much memory."""
    if (n_bytes := object_bytes(data)) > MAX_OBJECT_BYTES:
        known_id = NO_ID if isinstance(request_id, bool | list | dict) else request_id
        text = f"Invalid Request: this message would take about {n_bytes >> 20} MiB of memory. Send less at once."
        raise ProtocolError(INVALID_REQUEST, text, request_id=known_id)


def message_of(value: Any) -> Request | Notification | Response:
    """Validates one message, decoded or `Raw`; see `parse`."""
    if isinstance(value, Raw):
        message = parse(bytes(value))
        if not isinstance(message, Batch):
            return message
    if not isinstance(value, dict):
        raise ProtocolError(INVALID_REQUEST, "Invalid Request: expected a JSON object")
    method = value.get("method")
    request_id = value.get("id")
    if isinstance(request_id, bool | list | dict):
        raise ProtocolError(INVALID_REQUEST, "Invalid Request: id must be a string or a number", request_id=None)
    if method is None and ("result" in value or "error" in value):
        return Response(request_id, value.get("result"), value.get("error"))
    if not isinstance(method, str):
        raise ProtocolError(INVALID_REQUEST, "Invalid Request: method must be a string", request_id=request_id)
    params = value.get("params")
    is_notification = method.startswith("notifications/")
    if params is None or (is_notification and not isinstance(params, dict)):
        params = {}
    if is_notification:
        return Notification(method, params)
    if value.get("jsonrpc", "2.0") != "2.0":
        raise ProtocolError(INVALID_REQUEST, 'Invalid Request: jsonrpc must be "2.0"', request_id=request_id)
    if not isinstance(params, dict):
        raise ProtocolError(INVALID_PARAMS, "Invalid params: expected an object", request_id=request_id)
    return Request(request_id, method, params)


def result_message(request_id: Any, result: Any) -> Json:
    """The response to a successful request."""
    return {"jsonrpc": "2.0", "id": request_id, "result": result}


def error_message(error: ProtocolError) -> Json:
    """An error response."""
    body: Json = {"code": error.code, "message": str(error)}
    if error.data is not None:
        body["data"] = error.data
    if error.request_id is NO_ID:
        return {"jsonrpc": "2.0", "error": body}
    return {"jsonrpc": "2.0", "id": error.request_id, "error": body}


def request_message(request_id: str, method: str, params: Json) -> Json:
    """A request from the server."""
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}


def notification_message(method: str, params: Json) -> Json:
    """A notification from the server."""
    return {"jsonrpc": "2.0", "method": method, "params": params}


def encode(message: Any) -> bytes:
    """Encodes a message as ASCII JSON with a newline; NaN and infinities become null, lone surrogates U+FFFD.

    Some clients decode with the locale's encoding, or fail on NaN and surrogates.
    """
    try:
        line = msgspec.json.encode(message)
    except UnicodeEncodeError:
        line = msgspec.json.encode(_without_surrogates(msgspec.to_builtins(message)))
    if not line.isascii():
        line = line.decode().encode("ascii", errors=_ESCAPE)
    return line + b"\n"


_ESCAPE = "json_escape"


def _json_escape(error: UnicodeError) -> tuple[str, int]:
    """Codec error handler that writes non-ASCII characters as JSON escapes. Raises the error itself if it is not an
    encoding error."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be")
    return "\\u" + units.hex(" ", 2).replace(" ", "\\u"), error.end


codecs.register_error(_ESCAPE, _json_escape)


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_surrogates(item) for item in value]
    return value
