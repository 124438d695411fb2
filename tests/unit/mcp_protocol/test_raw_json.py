"""JSON that stays bytes: what it would take as objects, and what is read of it early."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from mcp_protocol.raw_json import MAX_BYTES_PER_BYTE, decoded, members, object_bytes, waiting_bytes

N = 20_000
SHAPES = [
    pytest.param(b"[" + b",".join([b"{}"] * N) + b"]", id="empty objects"),
    pytest.param(b"[" + b",".join([b"[]"] * N) + b"]", id="empty lists"),
    pytest.param(b"[" + b",".join([b"[0]"] * N) + b"]", id="lists of one"),
    pytest.param(b"[" + b",".join([b'{"":0}'] * N) + b"]", id="objects with an empty name"),
    pytest.param(b"[" + b",".join(b'{"k%d":0}' % n for n in range(N)) + b"]", id="objects with names of their own"),
    pytest.param(b"[" + b",".join([b"0.5"] * N) + b"]", id="fractions"),
    pytest.param(b"[" + b",".join(b'"%06d"' % n for n in range(N)) + b"]", id="short strings"),
    pytest.param(b"{" + b",".join(b'"%d":%d' % (n, n + 1000) for n in range(N)) + b"}", id="one large object"),
    pytest.param(b'["' + b"x" * N * 10 + b'"]', id="one long string"),
    pytest.param(
        b"[" + b",".join([b'{"type":"text","text":"a few words"}'] * N) + b"]", id="parts of a message in OpenAI's form"
    ),
]


@pytest.mark.parametrize("data", SHAPES)
def test_estimate_covers_what_the_objects_take(data: bytes) -> None:
    tracemalloc.start()
    try:
        value = decoded(data)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert value
    assert taken <= object_bytes(data) <= 8 * taken + 100_000
    assert taken <= MAX_BYTES_PER_BYTE * len(data)


def test_waiting_bytes_are_those_of_the_line_while_it_is_raw() -> None:
    data = b'{"messages":["' + b"x" * 100_000 + b'"]}'
    assert len(data) < waiting_bytes(Raw(data)) < len(data) + 10_000
    assert waiting_bytes({"a": [1, 2, 3]}) < 10_000


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(
            b'{"session_id":"a","messages":[{},{}],"timeout_s":5}', {"session_id": "a", "timeout_s": 5}, id="two"
        ),
        pytest.param(b'{"messages":[]}', {}, id="none"),
        pytest.param(b'{"session_id":"a","session_id":"b"}', {"session_id": "b"}, id="twice: the last"),
        pytest.param(b'{"session_id":"' + b"x" * 2_000 + b'"}', {}, id="too long to be a name"),
        pytest.param(b'{"session_id":"\xff"}', {}, id="no text after all"),
        pytest.param(b'{"session_id":"\\ud800!"}', {}, id="half a surrogate pair"),
        pytest.param(b'{"timeout_s":null}', {"timeout_s": None}, id="null"),
    ],
)
def test_short_members_are_read_without_the_rest(data: bytes, expected: Any) -> None:
    assert members(Raw(data), ("session_id", "timeout_s")) == expected


def test_half_a_surrogate_pair_is_mended_whatever_is_decoded() -> None:
    class Names(msgspec.Struct):
        name: str = ""
        rest: Raw = Raw(b"null")

    found = decoded(b'{"name":"\\ud83d!","rest":["\\ude00"]}', Names)
    assert found.name == "\ufffd!"
    assert decoded(found.rest) == ["\ufffd"]
