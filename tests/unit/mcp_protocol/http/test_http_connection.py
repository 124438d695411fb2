"""What comes by a socket before anybody is known: endless heads, slow bodies, silence, offers to upgrade."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator

import pytest

from mcp_protocol.http import http_connection
from tests.unit.mcp_protocol.host import WAIT_S
from tests.unit.mcp_protocol.http.conftest import MakeWeb
from tests.unit.mcp_protocol.http.web import Web
from tests.waiting import wait_until
from tests.web_client import CLIENT, request

pytestmark = pytest.mark.slow

HEAD = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nContent-Type: application/json\r\n"
INITIALIZE = json.dumps(request("initialize", {"protocolVersion": "2025-11-25", **CLIENT})).encode()
SHORT_S = 0.3


class Line:
    """A connection of bytes."""

    def __init__(self, web: Web) -> None:
        self.socket = socket.create_connection(web.service.address, WAIT_S)
        self._buffer = b""

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Sends bytes."""
        self.socket.sendall(data)

    def answer(self) -> tuple[int, bytes]:
        """The next answer with a declared length: its status and its body."""
        head = self._until(b"\r\n\r\n")
        status = int(head.split()[1])
        length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
        n_bytes = int(length.partition(b":")[2])
        while len(self._buffer) < n_bytes:
            self._read()
        body, self._buffer = self._buffer[:n_bytes], self._buffer[n_bytes:]
        return status, body

    def assert_ends(self, within_s: float = WAIT_S) -> None:
        """Waits until the server has ended the connection."""
        self.socket.settimeout(within_s)
        with contextlib.suppress(ConnectionError):
            while self.socket.recv(65536):
                pass

    def assert_silent(self, seconds: float) -> None:
        """Nothing comes, and the connection stays."""
        self.socket.settimeout(seconds)
        with pytest.raises(TimeoutError):
            self.socket.recv(1)
        self.socket.settimeout(WAIT_S)

    def _until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            self._read()
        found, _, self._buffer = self._buffer.partition(end)
        return found

    def _read(self) -> None:
        data = self.socket.recv(65536)
        assert data, "the connection ended"
        self._buffer += data


@pytest.fixture
def line(web: Web) -> Iterator[Line]:
    """A connection to a server with the defaults."""
    with Line(web) as line:
        yield line


def message_of(answer: tuple[int, bytes]) -> str:
    """The sentence of an error."""
    text: str = json.loads(answer[1])["error"]["message"]
    return text


def posted(body: bytes, *headers: bytes) -> bytes:
    """A whole request."""
    return b"".join([HEAD, *(header + b"\r\n" for header in headers), b"Content-Length: %d\r\n\r\n" % len(body), body])


# How long a head may be


@pytest.mark.parametrize(
    "begin",
    [
        HEAD + b"X: " + b"a" * 200_000,
        b"GET /" + b"a" * 200_000,
        b"GET /?" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        HEAD + b"".join(b"X-%d: y\r\n" % number for number in range(300)),
        HEAD + b"".join(b"a:\r\n" for _ in range(300)) + b"\r\n",
        HEAD + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
        HEAD + b"a" * 200_000,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\nX: " + b"a" * 200_000,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\n" + b"X: y\r\n" * 300,
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"x" * 200_000,
    ],
)
def test_what_is_no_body_is_bounded(web: Web, line: Line, begin: bytes) -> None:
    line.send(begin)
    status, body = line.answer()
    assert status == 431
    assert "headers" in message_of((status, body))
    line.assert_ends()
    web.initialize()


def test_head_within_the_bounds_is_read(web: Web, line: Line) -> None:
    line.send(posted(INITIALIZE, *(b"X-%d: %s" % (number, b"a" * 300) for number in range(200))))
    assert line.answer()[0] == 200


def test_refused_client_is_not_listened_to_for_long(line: Line) -> None:
    with pytest.raises(ConnectionError):
        line.send(HEAD + b"X: " + b"a" * (64 << 20))


# How long it may take


@pytest.mark.parametrize("begin", [b"", b"POST /mcp HT", HEAD, b"\r\n"])
@pytest.mark.parametrize("drips", [False, True])
def test_head_has_its_time_however_it_comes(
    web: Web, monkeypatch: pytest.MonkeyPatch, begin: bytes, drips: bool
) -> None:
    monkeypatch.setattr(http_connection, "HEAD_S", SHORT_S)
    monkeypatch.setattr(http_connection, "LINGER_S", SHORT_S)
    since_s = time.monotonic()
    with Line(web) as line:
        line.send(begin)
        if drips:
            with contextlib.suppress(ConnectionError):
                while time.monotonic() < since_s + WAIT_S:
                    line.send(b"\r\n" if begin in (b"", b"\r\n") else b"X")
                    time.sleep(0.02)
        elif begin:
            status, body = line.answer()
            assert (status, "did not arrive" in message_of((status, body))) == (408, True)
        line.assert_ends()
    assert time.monotonic() - since_s < WAIT_S / 2


def test_head_of_a_further_request_has_its_time_too(web: Web, line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "HEAD_S", SHORT_S)
    line.send(posted(INITIALIZE))
    assert line.answer()[0] == 200
    line.send(HEAD)
    assert line.answer()[0] == 408
    line.assert_ends()


def test_connection_without_a_token_ends_whatever_it_asks_for(
    make_web: MakeWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connection, "UNAUTHENTICATED_S", SHORT_S)
    web = make_web(tokens=("token",))
    since_s = time.monotonic()
    with Line(web) as stranger, Line(web) as known:
        known.send(posted(INITIALIZE, b"Authorization: Bearer token"))
        assert known.answer()[0] == 200
        with contextlib.suppress(ConnectionError, AssertionError):
            while time.monotonic() < since_s + WAIT_S:
                stranger.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert stranger.answer()[0] == 200
                time.sleep(0.02)
        assert SHORT_S * 0.9 < time.monotonic() - since_s < WAIT_S
        known.send(posted(INITIALIZE, b"Authorization: Bearer token"))
        assert known.answer()[0] == 200


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n", 401),
        (b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", 401),
        (b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n", 200),
        (b"POST /mcp HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 1000000\r\n\r\n", 403),
    ],
)
def test_rest_of_an_answered_request_is_not_waited_for(
    make_web: MakeWeb, monkeypatch: pytest.MonkeyPatch, head: bytes, status: int
) -> None:
    """Before anybody is known the answer comes at once; a body that then drips in keeps the connection for no time."""
    monkeypatch.setattr(http_connection, "LINGER_S", SHORT_S)
    web = make_web(tokens=("token",))
    since_s = time.monotonic()
    with Line(web) as line:
        line.send(head)
        assert line.answer()[0] == status
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < since_s + WAIT_S:
                line.send(b"1\r\nx\r\n")
                time.sleep(0.02)
        assert time.monotonic() - since_s < WAIT_S / 2


def test_client_that_still_sends_gets_the_answer_and_may_go_on(make_web: MakeWeb) -> None:
    web = make_web(tokens=("token",))
    body = b"x" * (8 << 20)
    with Line(web) as line:
        line.send(posted(body))
        assert line.answer()[0] == 401
        line.send(posted(INITIALIZE, b"Authorization: Bearer token"))
        assert line.answer()[0] == 200


def test_body_that_is_too_long_is_refused_while_the_client_sends_it(
    make_web: MakeWeb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mcp_protocol.stdio.MAX_LINE_BYTES", 1000)
    web = make_web()
    with Line(web) as line:
        line.send(posted(b"x" * (8 << 20)))
        assert line.answer()[0] == 413


def test_client_is_asked_to_go_on_only_where_the_body_is_wanted(make_web: MakeWeb) -> None:
    web = make_web(tokens=("token",))
    head = b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(INITIALIZE)
    with Line(web) as stranger, Line(web) as known:
        stranger.send(HEAD + head)
        assert stranger.answer()[0] == 401
        known.send(HEAD + b"Authorization: Bearer token\r\n" + head)
        assert known.answer()[0] == 100
        known.send(INITIALIZE)
        assert known.answer()[0] == 200


# How many there may be


def test_silent_connections_keep_nobody_out(make_web: MakeWeb) -> None:
    web = make_web(tokens=("token",))
    with contextlib.ExitStack() as silent:
        for number in range(400):
            silent.enter_context(Line(web)).send(b"POST /mcp HTTP/1.1\r\n" if number % 2 else b"")
        assert web.http.get("/health").status_code == 200
        web.initialize(authorization="Bearer token")


def test_requests_behind_each_other_are_answered_in_order(line: Line) -> None:
    line.send(posted(INITIALIZE) + b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" * 10)
    assert b"serverInfo" in line.answer()[1]
    assert [line.answer()[1] for _ in range(10)] == [b'{"status":"ok"}'] * 10


def test_requests_without_end_behind_each_other_are_refused(web: Web, line: Line) -> None:
    line.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000)
    line.assert_ends()
    web.initialize()


def test_stream_ends_with_its_client_whatever_waits_behind_it(web: Web) -> None:
    session = web.initialize()["mcp-session-id"]
    with Line(web) as line:
        head = f"GET /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nMcp-Session-Id: {session}\r\n\r\n"
        line.send(head.encode() * 2)
        line.answer()
        (held,) = web.service.app._sessions._sessions.values()
        assert held.n_uses == 1
    wait_until(lambda: held.n_uses == 0)


# What a request may offer


@pytest.mark.parametrize(
    "offer",
    [
        (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABkAAQAAP__"),
        (b"connection: keep-alive, Upgrade", b"upgrade: TLS/1.3, HTTP/1.1"),
        (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: eA=="),
    ],
)
@pytest.mark.parametrize("chunked", [False, True])
def test_offer_to_upgrade_is_passed_over(line: Line, offer: tuple[bytes, ...], chunked: bool) -> None:
    whole = posted(INITIALIZE, *offer)
    if chunked:
        head = HEAD + b"".join(header + b"\r\n" for header in offer)
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(INITIALIZE), INITIALIZE)
        whole = head + b"Transfer-Encoding: chunked\r\n\r\n" + body
    for _ in range(2):  # and the connection can be used again
        line.send(whole)
        status, body = line.answer()
        assert (status, "serverInfo" in json.loads(body)["result"]) == (200, True)
    for byte in whole:  # however the bytes come
        line.send(bytes([byte]))
    assert line.answer()[0] == 200


@pytest.mark.parametrize("offer", [b"", b"Connection: Upgrade\r\nUpgrade: h2c\r\n"])
@pytest.mark.parametrize(
    ("start", "status"),
    [
        (b"CONNECT example.com:443 HTTP/1.1", 400),
        (b"OPTIONS * HTTP/1.1", 404),
        (b"PRI * HTTP/2.0", 400),
        (b"GET http://localhost/health HTTP/1.1", 200),
        (b"GET /health HTTP/1.0", 200),
        (b"GET /health HTTP/3.0", 400),
        (b"NONSENSE", 400),
    ],
)
def test_odd_requests_are_answered(web: Web, line: Line, start: bytes, offer: bytes, status: int) -> None:
    line.send(start + b"\r\nHost: localhost\r\n" + offer + b"\r\n")
    assert line.answer()[0] == status
    web.initialize()
