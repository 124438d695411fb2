"""Headers that must repeat the body of a modern request."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from mcp_protocol.http import envelope
from mcp_protocol.jsonrpc import ProtocolError, Request
from tests.mcp_results import Json
from tests.web_client import headers_of, modern

CALL = modern("tools/call", {"name": "echo", "arguments": {"text": "x"}})
READ = modern("resources/read", {"uri": "test://texts/Zürich"})
MISMATCH = -32020


def code_of(message: Json, headers: Json) -> int | None:
    """The error that these headers bring; None where they fit."""
    pairs = [(name.encode(), value.encode()) for name, values in headers.items() for value in _list(values)]
    try:
        envelope.check(Request(message["id"], message["method"], message["params"]), Headers(raw=pairs))
    except ProtocolError as error:
        return error.code
    return None


def _list(values: object) -> list[str]:
    return [str(value) for value in values] if isinstance(values, list) else [str(values)]


def test_headers_that_repeat_the_body_fit() -> None:
    assert code_of(CALL, headers_of(CALL)) is None
    listing = modern("tools/list")
    assert code_of(listing, headers_of(listing)) is None


@pytest.mark.parametrize("name", ["mcp-protocol-version", "mcp-method", "mcp-name"])
@pytest.mark.parametrize("value", [None, "other", "", ["echo", "echo"]])
def test_each_header_has_to_fit(name: str, value: object) -> None:
    headers: Json = {**headers_of(CALL), name: value}
    assert code_of(CALL, {key: given for key, given in headers.items() if given is not None}) == MISMATCH


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("=?base64?dGVzdDovL3RleHRzL1rDvHJpY2g=?=", None),
        ("=?base64?dGVzdDovL3RleHRzL1rDvHJpY2g?=", MISMATCH),
        ("=?base64?dGVzdDovL3!!!RleHRzL1rDvHJpY2g=?=", MISMATCH),
        ("=?base64?/////w==?=", MISMATCH),
        ("test://texts/Zurich", MISMATCH),
    ],
)
def test_text_that_a_header_cannot_hold_comes_as_base64(value: str, code: int | None) -> None:
    assert code_of(READ, {**headers_of({**READ, "params": {"uri": "x"}}), "mcp-name": value}) == code


def test_text_is_taken_literally_unless_it_says_that_it_is_base64() -> None:
    for name in ("SGVsbG8=", "=?base64?SGVsbG8=", "SGVsbG8=?="):
        message = modern("tools/call", {"name": name})
        assert code_of(message, headers_of(message)) is None


@pytest.mark.parametrize(
    ("params", "version", "modern_era"),
    [
        ({}, None, False),
        ({}, "2025-11-25", False),
        ({}, "2026-07-28", True),
        ({}, "2031-01-01", True),
        (CALL["params"], None, True),
        (CALL["params"], "2025-11-25", True),
        ({"_meta": {"io.modelcontextprotocol/clientCapabilities": {}}}, None, True),
    ],
)
def test_era_is_told_by_body_and_header(params: Json, version: str | None, modern_era: bool) -> None:
    assert (
        envelope.is_modern(params, Headers({} if version is None else {"mcp-protocol-version": version})) == modern_era
    )


def test_header_without_its_envelope_is_an_error() -> None:
    bare = {**CALL, "params": {"name": "echo"}}
    assert code_of(bare, headers_of(CALL)) == -32602
    assert code_of(bare, {**headers_of(CALL), "mcp-protocol-version": "2031-01-01"}) == -32022
