"""JSON that is not quite JSON."""

from __future__ import annotations

import math

import msgspec
import pytest

from http_client.loose_json import decoded


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a": 1}', {"a": 1}),
        (b'\xef\xbb\xbf{"a": 1}', {"a": 1}),
        (b'\xef\xbb\xbf{"a": "x\ny"}', {"a": "x\ny"}),
        (b'{"a": "caf\xe9"}', {"a": "caf\ufffd"}),
        (rb'{"a": "\ud83d cat"}', {"a": "\ufffd cat"}),
        (rb'{"a": "cat \udc31", "b": "\uD83D\uDC31"}', {"a": "cat \ufffd", "b": "\U0001f431"}),
    ],
)
def test_what_can_be_understood_is_taken_and_can_be_told_again(data: bytes, value: object) -> None:
    assert decoded(data) == (value, True)
    msgspec.json.encode(value)


def test_numbers_that_are_none_are_taken() -> None:
    found, is_json = decoded(b'{"a": NaN, "b": Infinity, "c": 2}')
    assert is_json
    assert math.isnan(found["a"])
    assert (found["b"], found["c"]) == (math.inf, 2)


@pytest.mark.parametrize("data", [b"", b"<html>", b'{"a": ', b"[" * 100_000])
def test_what_is_no_json_is_told(data: bytes) -> None:
    assert decoded(data) == (None, False)
