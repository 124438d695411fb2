"""Limits of downloads: size, time, cancelling, compression."""

from __future__ import annotations

import gzip
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest

from media.call_limits import CallLimits
from media.errors import MediaCancelled, MediaError, MediaNotFound, MediaTooLarge, MediaUnreadable
from media.network import downloads
from media.network.downloads import fetch
from sandbox.cancellation import Cancellation
from tests.unit.media.local_downloads import LOCAL, get

pytestmark = pytest.mark.slow


def test_declared_length_above_the_limit_is_refused_at_once(server: Any) -> None:
    server.answer("/", b"x", Content_Length=str(10**15))
    with pytest.raises(MediaTooLarge, match="VLLM_MAX_IMAGE_BYTES"):
        get(server.url("/"))


def stream_forever(handler: BaseHTTPRequestHandler, chunk: bytes, pause_s: float) -> None:
    stopped: threading.Event = handler.server.stopped  # type: ignore[attr-defined]
    while not stopped.wait(pause_s):
        handler.wfile.write(chunk)


def test_endless_body_ends_at_the_limit(server: Any) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        stream_forever(handler, b"x" * 65_536, 0)

    server.routes["/"] = endless
    with pytest.raises(MediaTooLarge):
        get(server.url("/"))


def test_body_longer_than_declared_is_cut_at_the_declared_length(server: Any) -> None:
    server.answer("/", b"x" * 5_000, Content_Length="10")
    assert get(server.url("/")) == b"x" * 10


def test_chunked_body_counts_against_the_limit(server: Any) -> None:
    def chunked(handler: BaseHTTPRequestHandler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        stream_forever(handler, b"1000\r\n" + b"x" * 4096 + b"\r\n", 0)

    server.routes["/"] = chunked
    with pytest.raises(MediaTooLarge):
        get(server.url("/"))


def test_image_dripping_byte_by_byte_ends_at_the_deadline(server: Any) -> None:
    def drip(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        stream_forever(handler, b"x", 0.02)

    server.routes["/"] = drip
    assert_times_out(server.url("/"))


def test_headers_dripping_byte_by_byte_end_at_the_deadline(server: Any) -> None:
    server.routes["/"] = lambda handler: stream_forever(handler, b"H", 0.02)
    assert_times_out(server.url("/"))


def test_silent_server_ends_at_the_deadline(server: Any) -> None:
    server.routes["/"] = lambda handler: handler.server.stopped.wait()
    assert_times_out(server.url("/"))


def test_redirects_share_one_deadline(server: Any) -> None:
    def slow(handler: BaseHTTPRequestHandler) -> None:
        handler.server.stopped.wait(0.15)  # type: ignore[attr-defined]
        handler.send_response(302)
        handler.send_header("Location", "/")
        handler.end_headers()

    server.routes["/"] = slow
    assert_times_out(server.url("/"))


def test_stuck_resolver_ends_at_the_deadline(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "resolve", lambda *_: server.stopped.wait())
    assert_times_out("http://stuck.example/")


@pytest.mark.parametrize("says_first", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"])
def test_connection_is_closed_when_the_call_is_cancelled(server: Any, says_first: bytes) -> None:
    asked, cancellation, closed = threading.Event(), Cancellation(), threading.Event()

    def silent(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(says_first)
        asked.set()
        handler.connection.settimeout(10)
        if handler.connection.recv(1) == b"":
            closed.set()

    server.routes["/"] = silent
    with ThreadPoolExecutor(1) as pool:
        limits = CallLimits(cancellation)
        download = pool.submit(fetch, server.url("/"), max_bytes=100, timeout_s=10, allowed_hosts=LOCAL, limits=limits)
        assert asked.wait(5)
        cancellation.set()
        with pytest.raises(MediaCancelled):
            download.result(timeout=3)
    assert closed.wait(3)


def test_cancelled_call_does_not_wait_for_the_resolver(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cancellation = Cancellation()

    def stuck(*_: Any) -> None:
        cancellation.set()
        server.stopped.wait()

    monkeypatch.setattr(downloads, "resolve", stuck)
    with pytest.raises(MediaCancelled):
        fetch("http://stuck.example/", max_bytes=100, timeout_s=10, limits=CallLimits(cancellation))


def test_deadline_of_the_call_is_not_blamed_on_the_host(server: Any) -> None:
    server.routes["/"] = lambda handler: handler.server.stopped.wait()
    limits = CallLimits(deadline_s=time.monotonic() + 0.3)
    with pytest.raises(MediaCancelled):
        fetch(server.url("/"), max_bytes=100, timeout_s=10, allowed_hosts=LOCAL, limits=limits)


def assert_times_out(url: str) -> None:
    start = time.monotonic()
    with pytest.raises(MediaUnreadable, match=r"within 0\.4 s"):
        get(url, timeout_s=0.4)
    assert time.monotonic() - start < 3


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_body_is_read(server: Any, encoding: str, compress: Callable[[bytes], bytes]) -> None:
    server.answer("/", compress(b"cat" * 1_000), Content_Encoding=encoding)
    assert get(server.url("/")) == b"cat" * 1_000


def test_gzip_bomb_is_stopped_at_the_limit(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    really = zlib.decompressobj

    class Recording:
        def __init__(self, wbits: int) -> None:
            self._inner = really(wbits)
            self.eof = False

        def decompress(self, data: bytes, max_length: int) -> bytes:
            asked.append(max_length)
            return self._inner.decompress(data, max_length)

    monkeypatch.setattr(zlib, "decompressobj", Recording)
    server.answer("/", gzip.compress(bytes(50_000_000)), Content_Encoding="gzip")
    with pytest.raises(MediaTooLarge):
        get(server.url("/"))
    assert max(asked) == 100_001
    assert 0 not in asked  # 0 would mean no limit


@pytest.mark.parametrize(("encoding", "body"), [("gzip", b"not gzip"), ("br", b"x"), ("gzip, gzip", b"x")])
def test_unreadable_compression_is_an_error(server: Any, encoding: str, body: bytes) -> None:
    server.answer("/", body, Content_Encoding=encoding)
    with pytest.raises(MediaUnreadable):
        get(server.url("/"))


@pytest.mark.parametrize(
    ("status", "error"),
    [(404, MediaNotFound), (410, MediaNotFound), (204, MediaUnreadable), (206, MediaUnreadable)]
    + [(status, MediaUnreadable) for status in (304, 400, 401, 403, 429, 500, 503)],
)
def test_other_status_is_an_error_that_names_it(server: Any, status: int, error: type[MediaError]) -> None:
    server.answer("/", b"", status)
    with pytest.raises(error, match=f"127.0.0.1.*{status}"):
        get(server.url("/"))
