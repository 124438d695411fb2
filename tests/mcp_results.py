"""Checks the server's answers against the protocol's own schemas, in the official Python types."""

from __future__ import annotations

from typing import Any

from mcp_types.methods import parse_server_notification, validate_server_result

LEGACY = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN = "2026-07-28"
REVISIONS = (*LEGACY, MODERN)

Json = dict[str, Any]


def envelope(**extra: Any) -> Json:
    """The `_meta` of a modern request; `extra` holds more of its keys, such as `progressToken`."""
    return {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientInfo": {"name": "tests", "version": "1.0.0"},
        "io.modelcontextprotocol/clientCapabilities": {},
        **extra,
    }


def check_result(method: str, revision: str, answer: Json) -> Json:
    """Returns the result of an answer that is exactly what the revision prescribes."""
    assert set(answer) == {"jsonrpc", "id", "result"}, answer
    assert answer["jsonrpc"] == "2.0"
    validate_server_result(method, revision, answer["result"])
    result: Json = answer["result"]
    return result


def check_notification(method: str, revision: str, message: Json) -> Json:
    """Returns the parameters of a notification that is exactly what the revision prescribes."""
    assert set(message) == {"jsonrpc", "method", "params"}, message
    assert message["method"] == method
    parse_server_notification(method, revision, message["params"])
    params: Json = message["params"]
    return params


def text_of(answer: Json) -> str:
    """The one text block of a tool's answer."""
    (block,) = answer["result"]["content"]
    assert block["type"] == "text", block
    return str(block["text"])
