"""Reads the body of an error: its message, codes and fields, in every format that servers use.

OpenAI's and vLLM's `error.message`, OpenRouter's `error.metadata.raw` (the upstream response as text), Gemini's array
of errors, Mistral's `message.detail`, FastAPI's `detail` as text or list, DashScope's `code` and `message`,
RFC 9457's `title` and `detail`, plain text, HTML, and an error with status 200.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import msgspec

from http_client.loose_json import decoded
from http_client.redaction import is_html, without_tags

MAX_DEPTH = 8
MAX_SENTENCES = 3
MAX_READ_BYTES = 65_536

_SENTENCES = (
    "message", "detail", "error_description", "error_message", "error_msg", "errormessage", "errmsg", "err_msg", "msg",
    "status_msg", "reason", "failure_reason", "title", "description", "details",
    "faultstring",
)  # fmt: skip
_TEXTS = ("detail", "message", "msg", "error_msg", "errmsg", "err_msg", "error_message", "error_description")
_INNER = (
    "error", "errors", "err", "response", "fault", "exception", "base_resp", "base_response", "innererror",
    "inner_error",
)  # fmt: skip
_CODES = ("code", "type", "status", "error_type", "error_code", "reason", "__type", "status_code", "errorcode")
_EMPTY = {"", "error", "null", "none", "success", "ok"}
_STATUSES = {status.phrase.lower() for status in HTTPStatus} | {""}
_NAMELESS = {"body", "query", "header", "path", "__root__"}


class ErrorBody(msgspec.Struct, frozen=True):
    """The content of an error's body.

    Attributes:
        sentence: the message as the server wrote it; it may contain secrets.
        codes: the words and numbers for the kind of error, in lower case.
        fields: the fields of the request that the error names.
    """

    sentence: str = ""
    codes: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()

    @property
    def status(self) -> int | None:
        """The HTTP status in the body, as errors inside a stream have it."""
        return next((int(code) for code in self.codes if re.fullmatch(r"[45]\d\d", code)), None)


def read_error(body: bytes | Any) -> ErrorBody:
    """Reads the body of an error, or a decoded part of one."""
    if isinstance(body, bytes | bytearray):
        text = bytes(body[:MAX_READ_BYTES]).decode("utf-8", "replace").lstrip("\ufeff").strip()
        body = _decoded(text)
        if body is None:
            return ErrorBody(_of_page(text) if is_html(text) else _first_data(text))
    sentences = list(dict.fromkeys(_sentences(body, 0)))
    unique = [each for each in sentences if not any(each != other and each in other for other in sentences)]
    return ErrorBody(
        ": ".join(each.rstrip(".: ") if n < len(unique) - 1 else each for n, each in enumerate(unique[:MAX_SENTENCES])),
        tuple(dict.fromkeys(_codes(body, 0))),
        tuple(dict.fromkeys(_fields(body, 0))),
    )


def error_in(response: Any, *, is_whole: bool = True) -> ErrorBody | None:
    """The error in a decoded response with status 200; `None` where it may be a regular response.

    Arguments:
        response: the decoded response.
        is_whole: whether this is the whole response. A lone message is an error then; in a stream it may be a status
            message.
    """
    if isinstance(response, list):
        found = [error_in(each, is_whole=is_whole) for each in response[:4]]
        return found[0] if found and all(found) else None
    if not isinstance(response, dict) or any(response.get(key) for key in ("choices", "data", "models", "candidates")):
        return None
    is_error = (
        bool(response.get("error") or response.get("errors"))
        or "error" in (response.get("object"), response.get("type"), response.get("status"))
        or False in (response.get("success"), response.get("ok"))
        or bool(_base(response).get("status_code"))
        or (isinstance(status := response.get("status_code"), int) and 400 <= status < 600)
        or (is_whole and "choices" not in response and any(isinstance(response.get(key), str | list) for key in _TEXTS))
    )
    return read_error(response) if is_error else None


def _base(response: dict[str, Any]) -> dict[str, Any]:
    found = response.get("base_resp") or response.get("base_response")
    return found if isinstance(found, dict) else {}


def _decoded(text: str) -> Any:
    """The JSON value of a text; `None` where it is not an object or a list."""
    if not text.startswith(("{", "[")):
        return None
    found, _ = decoded(text.encode("utf-8", "replace"))
    return found if isinstance(found, dict | list) else None


def _of_page(text: str) -> str:
    """The text of an HTML page; "" where it only repeats the status."""
    content = without_tags(text)
    return "" if re.sub(r"^\d{3}\W*", "", content).lower() in _STATUSES else content


def _first_data(text: str) -> str:
    """Plain text as it is; the data of the first event of a stream; the first message of truncated JSON."""
    if text.startswith(("{", "[")):
        cut_off = re.search(r'"(?:message|detail|error|msg)"\s*:\s*"((?:[^"\\]|\\.){1,2000})', text)
        return cut_off[1] if cut_off is not None else ""
    found = re.search(r"^data:\s*(.+)$", text, re.MULTILINE)
    if found is None:
        return text.strip('"')
    inner = _decoded(found[1])
    return found[1] if inner is None else read_error(inner).sentence


def _lowered(value: dict[Any, Any]) -> dict[str, Any]:
    return {key.lower(): entry for key, entry in value.items() if isinstance(key, str)}


def _sentences(value: Any, depth: int) -> Iterator[str]:
    if depth > MAX_DEPTH:
        return
    if isinstance(value, str):
        yield from _of_text(value, depth)
    elif isinstance(value, list):
        for entry in value[:8]:
            yield from _sentences(entry, depth + 1)
    elif isinstance(value, dict):
        yield from _of_object(_lowered(value), depth)


def _of_text(text: str, depth: int) -> Iterator[str]:
    """The message, and the messages in JSON that it contains, as gateways quote upstream errors."""
    start = min((at for at in (text.find("{"), text.find("[{")) if at >= 0), default=-1)
    inner = _decoded(text[start:].strip().rstrip("'\"`. ")) if start >= 0 else None
    quoted = list(_sentences(inner, depth + 1)) if inner is not None else []
    before = text[:start].strip().rstrip(":-'\"` ").removesuffix("b") if quoted else text.strip()
    if before.lower() not in _EMPTY:
        yield without_tags(before) if is_html(before) else before
    yield from quoted


def _of_object(value: dict[str, Any], depth: int) -> Iterator[str]:
    if isinstance(value.get("msg"), str) and isinstance(value.get("loc"), list):
        where = ".".join(str(each) for each in value["loc"] if each not in _NAMELESS)
        yield f"{where}: {value['msg']}" if where else value["msg"]
        return
    for key in _INNER:
        yield from _sentences(value.get(key), depth + 1)
    if isinstance(value.get("title"), str) and isinstance(value.get("detail"), str):
        yield from _sentences(value["title"], depth + 1)
    found = False
    for key in _SENTENCES:
        sentences = list(_sentences(value.get(key), depth + 1)) if not found else []
        found = found or bool(sentences)
        yield from sentences
    metadata = value.get("metadata")
    if isinstance(metadata, dict):
        raw = metadata.get("raw")
        yield from _sentences(raw.get("data", raw) if isinstance(raw, dict) else raw, depth + 1)
        reasons = metadata.get("reasons")
        if isinstance(reasons, list) and reasons:
            yield ", ".join(str(each) for each in reasons[:8])


def _codes(value: Any, depth: int) -> Iterator[str]:
    for entry in _objects(value, depth):
        for key in _CODES:
            code = entry.get(key)
            if isinstance(code, int | str) and not isinstance(code, bool) and len(str(code)) <= 80:
                yield str(code).lower()
        if isinstance(entry.get("error"), str) and len(entry["error"]) <= 80 and " " not in entry["error"]:
            yield entry["error"].lower()


def _fields(value: Any, depth: int) -> Iterator[str]:
    for entry in _objects(value, depth):
        for key in ("param", "parameter", "field"):
            if isinstance(entry.get(key), str) and 0 < len(entry[key]) <= 80:
                yield re.split(r"[.\[]", entry[key].removeprefix("body."))[0]
        if isinstance(entry.get("loc"), list):
            names = [each for each in entry["loc"] if isinstance(each, str) and each not in _NAMELESS]
            yield from names[:1]


def _objects(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    """All objects in an error, including JSON inside strings."""
    if depth > MAX_DEPTH:
        return
    if isinstance(value, str):
        start = value.find("{")
        inner = _decoded(value[start:].strip().rstrip("'\"`. ")) if start >= 0 else None
        if inner is not None:
            yield from _objects(inner, depth + 1)
    elif isinstance(value, list):
        for each in value[:8]:
            yield from _objects(each, depth + 1)
    elif isinstance(value, dict):
        lowered = _lowered(value)
        yield lowered
        for each in list(lowered.values())[:32]:
            if isinstance(each, dict | list | str):
                yield from _objects(each, depth + 1)
