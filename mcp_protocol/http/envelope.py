"""The headers of a modern request, which repeat parts of its body for proxies; both must agree."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from starlette.datastructures import Headers

from mcp_protocol.jsonrpc import Json, ProtocolError, Request
from mcp_protocol.versions import (
    LEGACY,
    META_CAPABILITIES,
    META_VERSION,
    MODERN,
    SUPPORTED,
    UNSUPPORTED_VERSION,
    meta_of,
    missing_envelope,
)

HEADER_MISMATCH = -32020
VERSION_HEADER = "mcp-protocol-version"
METHOD_HEADER = "mcp-method"
NAME_HEADER = "mcp-name"

_NAMED = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}
"""Methods whose `Mcp-Name` header repeats this parameter."""

_ENCODED = re.compile(r"=\?base64\?(.*)\?=", re.DOTALL)


def is_modern(params: Json, headers: Headers) -> bool:
    """Whether a request is stateless: its `_meta` says so, or its header names no legacy version."""
    meta = meta_of(params)
    return META_VERSION in meta or META_CAPABILITIES in meta or _is_modern_version(headers)


def _is_modern_version(headers: Headers) -> bool:
    return any(version not in LEGACY for version in headers.getlist(VERSION_HEADER))


def check_notification(headers: Headers) -> None:
    """Rejects a modern notification of an unsupported version; raises `ProtocolError`."""
    for version in headers.getlist(VERSION_HEADER):
        if version not in MODERN:
            raise _unsupported(version)


def check(request: Request, headers: Headers) -> None:
    """Compares the headers of a modern request with its body; raises `ProtocolError`."""
    meta = meta_of(request.params)
    version = _only(VERSION_HEADER, headers)
    if META_VERSION not in meta:
        if version is not None and version not in SUPPORTED:
            raise _unsupported(version)
        raise missing_envelope()
    _compare(VERSION_HEADER, version, meta[META_VERSION])
    _compare(METHOD_HEADER, _only(METHOD_HEADER, headers), request.method)
    name = request.params.get(_NAMED.get(request.method, ""))
    if name is not None:
        _compare(NAME_HEADER, decoded(_only(NAME_HEADER, headers)), name)


def decoded(value: str | None) -> str | None:
    """Decodes a header value of the form `=?base64?...?=`; None if that is invalid. Other values are returned as is."""
    match = None if value is None else _ENCODED.fullmatch(value)
    if match is None:
        return value
    try:
        data = base64.b64decode(match[1], validate=True)
        return data.decode() if base64.b64encode(data).decode() == match[1] else None
    except (binascii.Error, UnicodeDecodeError):
        return None


def _only(name: str, headers: Headers) -> str | None:
    values = headers.getlist(name)
    if len(values) > 1:
        raise ProtocolError(HEADER_MISMATCH, f"Header mismatch: {name} occurs more than once")
    return values[0].strip() if values else None


def _compare(name: str, value: str | None, expected: Any) -> None:
    if value is None or value != expected:
        problem = "is missing" if value is None else "differs from the request's body"
        raise ProtocolError(HEADER_MISMATCH, f"Header mismatch: {name} {problem}")


def _unsupported(version: str) -> ProtocolError:
    data = {"supported": list(SUPPORTED), "requested": version[:100]}
    return ProtocolError(UNSUPPORTED_VERSION, "Unsupported protocol version", data)
