from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest

from mcp_protocol.jsonrpc import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    NO_ID,
    PARSE_ERROR,
    Batch,
    Notification,
    ProtocolError,
    Request,
    Response,
    encode,
    error_message,
    parse,
)

BIG = 10**30


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{}}', Request(1, "ping", {}), id="plain"),
        pytest.param(b'\xef\xbb\xbf{"id":1,"method":"ping"}', Request(1, "ping", {}), id="byte order mark"),
        pytest.param(b'{"id":1,"method":"ping"}', Request(1, "ping", {}), id="no jsonrpc"),
        pytest.param(b'{"method":"ping"}', Request(None, "ping", {}), id="no id"),
        pytest.param(b'{"id":null,"method":"ping"}', Request(None, "ping", {}), id="null id"),
        pytest.param(b'{"id":0,"method":"ping"}', Request(0, "ping", {}), id="id 0"),
        pytest.param(b'{"id":"","method":"ping"}', Request("", "ping", {}), id="empty id"),
        pytest.param(b'{"id":1.5,"method":"ping"}', Request(1.5, "ping", {}), id="id with a fraction"),
        pytest.param(b'{"id":%d,"method":"ping"}' % BIG, Request(BIG, "ping", {}), id="id beyond 64 bits"),
        pytest.param(b'{"id":1,"method":"ping","params":null}', Request(1, "ping", {}), id="null params"),
        pytest.param(b'{"id":1,"method":"a","method":"b"}', Request(1, "b", {}), id="duplicate keys: the last one"),
        pytest.param(b'{"id":1,"method":"a\\u0000\xe2\x80\xa8"}', Request(1, "a\0\u2028", {}), id="NUL and U+2028"),
        pytest.param(b'{"id":1,"method":"\\ud83d\\ude00"}', Request(1, "\U0001f600", {}), id="surrogate pair"),
        pytest.param(b'{"id":1,"method":"\\uD83D!"}', Request(1, "\ufffd!", {}), id="first half of a pair alone"),
        pytest.param(b'{"id":1,"method":"\\ude00"}', Request(1, "\ufffd", {}), id="second half of a pair alone"),
        pytest.param(
            b'{"id":1,"method":"\\ud83d\\ud83d\\ude00\\\\ud83d"}',
            Request(1, "\ufffd\U0001f600\\ud83d", {}),
            id="half a pair, a pair and an escaped backslash",
        ),
        pytest.param(b'{"method":"notifications/x"}', Notification("notifications/x", {}), id="notification"),
        pytest.param(b'{"id":1,"method":"notifications/x"}', Notification("notifications/x", {}), id="with an id"),
        pytest.param(
            b'{"method":"notifications/x","params":[]}', Notification("notifications/x", {}), id="with a list"
        ),
        pytest.param(
            b'{"jsonrpc":"1.0","method":"notifications/x"}', Notification("notifications/x", {}), id="JSON-RPC 1.0"
        ),
        pytest.param(b'{"jsonrpc":"2.0","id":1,"result":{}}', Response(1, {}), id="a client's result"),
        pytest.param(
            b'{"jsonrpc":"2.0","id":1,"error":{"code":1}}', Response(1, None, {"code": 1}), id="a client's error"
        ),
        pytest.param(b"[]", Batch([]), id="empty batch"),
        pytest.param(b'[{"id":1},2]', Batch([{"id": 1}, 2]), id="batch"),
    ],
)
def test_line_becomes_message(line: bytes, expected: Any) -> None:
    message = parse(line)
    assert message == expected
    if isinstance(message, Request) and isinstance(expected, Request):
        assert type(message.id) is type(expected.id)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"{", id="cut off"),
        pytest.param(b"{'id':1}", id="single quotes"),
        pytest.param(b"hello", id="not JSON"),
        pytest.param(b'{"id":1,"method":"ping"} {}', id="two values"),
        pytest.param(b'{"id":1,"method":"\xff\xfe"}', id="invalid UTF-8"),
        pytest.param(b'{"id":1,"method":"\xed\xa0\x80"}', id="UTF-8 of a surrogate"),
        pytest.param(b'{"id":1,"method":"a\x00"}', id="raw NUL in a string"),
        pytest.param(b'{"id":1,"method":"\\x"}', id="unknown escape"),
        pytest.param(b'{"id":1,"method":"\\ud8"}', id="short escape"),
        pytest.param(b'{"id":1,"params":{"a":NaN}}', id="NaN"),
        pytest.param(b'{"id":1,"params":{"a":-Infinity}}', id="Infinity"),
        pytest.param(b'{"id":1,"params":{"a":1e999}}', id="number beyond a double"),
        pytest.param(b'{"id":' + b"9" * 5000 + b"}", id="integer of 5,000 digits"),
        pytest.param(b"[" * 100_000, id="100,000 lists deep"),
        pytest.param(b'{"a":' * 100_000, id="100,000 objects deep"),
        pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, id="100,000 objects deep and closed"),
        pytest.param("{}".encode("utf-16"), id="UTF-16"),
    ],
)
def test_what_is_not_json_is_a_parse_error_without_id(line: bytes) -> None:
    with pytest.raises(ProtocolError) as error:
        parse(line)
    assert error.value.code == PARSE_ERROR
    answer = json.loads(encode(error_message(error.value)))
    assert set(answer) == {"jsonrpc", "error"}
    assert len(answer["error"]["message"]) < 300


@pytest.mark.parametrize(
    ("line", "code", "request_id"),
    [
        pytest.param(b"null", INVALID_REQUEST, NO_ID, id="null"),
        pytest.param(b'"ping"', INVALID_REQUEST, NO_ID, id="a string"),
        pytest.param(b"17", INVALID_REQUEST, NO_ID, id="a number"),
        pytest.param(b"{}", INVALID_REQUEST, None, id="empty object"),
        pytest.param(b'{"id":7}', INVALID_REQUEST, 7, id="no method"),
        pytest.param(b'{"id":7,"method":5}', INVALID_REQUEST, 7, id="method a number"),
        pytest.param(b'{"id":7,"method":null}', INVALID_REQUEST, 7, id="method null"),
        pytest.param(b'{"id":true,"method":"ping"}', INVALID_REQUEST, None, id="id true"),
        pytest.param(b'{"id":[1],"method":"ping"}', INVALID_REQUEST, None, id="id a list"),
        pytest.param(b'{"id":{},"method":"ping"}', INVALID_REQUEST, None, id="id an object"),
        pytest.param(b'{"jsonrpc":"1.0","id":7,"method":"ping"}', INVALID_REQUEST, 7, id="jsonrpc 1.0"),
        pytest.param(b'{"jsonrpc":2.0,"id":7,"method":"ping"}', INVALID_REQUEST, 7, id="jsonrpc a number"),
        pytest.param(b'{"id":7,"method":"ping","params":[1]}', INVALID_PARAMS, 7, id="params a list"),
        pytest.param(b'{"id":0,"method":"ping","params":"x"}', INVALID_PARAMS, 0, id="params a string"),
    ],
)
def test_broken_envelope_is_an_error_that_echoes_what_id_there_was(line: bytes, code: int, request_id: Any) -> None:
    with pytest.raises(ProtocolError) as error:
        parse(line)
    assert error.value.code == code
    assert error.value.request_id is request_id or error.value.request_id == request_id


def test_error_message_has_an_id_unless_none_could_be_read() -> None:
    assert error_message(ProtocolError(-1, "no")) == {"jsonrpc": "2.0", "error": {"code": -1, "message": "no"}}
    with_null = error_message(ProtocolError(-1, "no", request_id=None))
    assert json.loads(encode(with_null)) == {"jsonrpc": "2.0", "id": None, "error": {"code": -1, "message": "no"}}
    with_data = error_message(ProtocolError(-1, "no", {"a": 1}, request_id=""))
    assert with_data == {"jsonrpc": "2.0", "id": "", "error": {"code": -1, "message": "no", "data": {"a": 1}}}


class Figures(msgspec.Struct):
    """A result as handlers return it."""

    name: str
    values: tuple[float, ...]


@pytest.mark.parametrize(
    ("value", "line"),
    [
        pytest.param({"a": math.nan, "b": [math.inf, -math.inf]}, b'{"a":null,"b":[null,null]}', id="NaN, infinities"),
        pytest.param("é", b'"\\u00e9"', id="Latin"),
        pytest.param("漢", b'"\\u6f22"', id="three bytes of UTF-8"),
        pytest.param("\U0001f600", b'"\\ud83d\\ude00"', id="above the base plane"),
        pytest.param("\U0010ffff\uffff", b'"\\udbff\\udfff\\uffff"', id="last code points"),
        pytest.param("a\u2028b\u2029c\u0085", b'"a\\u2028b\\u2029c\\u0085"', id="line separators"),
        pytest.param("a\nb\r\0\x1b", b'"a\\nb\\r\\u0000\\u001b"', id="control characters"),
        pytest.param("\ud800", b'"\\ufffd"', id="lone surrogate"),
        pytest.param("\ud83d\ude00", b'"\\ud83d\\ude00"', id="pair of surrogates"),
        pytest.param({"\udc00": ["a\ud800b", ("\udfff",)]}, b'{"\\ufffd":["a\\ufffdb",["\\ufffd"]]}', id="inside"),
        pytest.param(Figures("\ud800é", (1.5,)), b'{"name":"\\ufffd\\u00e9","values":[1.5]}', id="a Struct"),
        pytest.param(2**64, b"18446744073709551616", id="beyond 64 bits"),
        pytest.param(-(10**30), b"-1" + b"0" * 30, id="large and negative"),
    ],
)
def test_message_becomes_one_line_of_strict_ascii_json(value: Any, line: bytes) -> None:
    assert encode(value) == line + b"\n"
    json.loads(line, parse_constant=pytest.fail)


def test_every_code_point_survives_the_way_out() -> None:
    text = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF)
    line = encode(text)
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert json.loads(line) == text
