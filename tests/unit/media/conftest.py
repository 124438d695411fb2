"""What the tests of media share: encoded images, and a real HTTP server on a free port of this machine."""

from __future__ import annotations

import io
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import Any

import httpcore
import pytest
from PIL import Image

from media.network import downloads

Route = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def encoded() -> Callable[..., bytes]:
    """Encodes an image: `encoded("PNG", mode, size, colour, **options)`."""

    def encode(
        format: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (8, 6), color: Any = "red", **options: Any
    ) -> bytes:
        buffer = io.BytesIO()
        Image.new(mode, size, color).save(buffer, format, **options)
        return buffer.getvalue()

    return encode


@pytest.fixture
def raw_png() -> Callable[..., bytes]:
    """Builds a PNG chunk by chunk, as no honest program would."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    def build(
        width: int,
        height: int,
        rows: bytes,
        *,
        depth: int = 8,
        color_type: int = 2,
        extra: Mapping[bytes, bytes] = MappingProxyType({}),
    ) -> bytes:
        header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
        middle = b"".join(chunk(kind, body) for kind, body in extra.items())
        data = chunk(b"IDAT", zlib.compress(rows))
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + middle + data + chunk(b"IEND", b"")

    return build


class _Handler(BaseHTTPRequestHandler):
    server: ImageServer

    def do_GET(self) -> None:
        self.server.seen.append(self)
        self.server.routes[self.path](self)

    def log_message(self, format: str, *args: Any) -> None:
        """Keeps quiet."""


class ImageServer(ThreadingHTTPServer):
    """Serves what `routes` says, path by path; `seen` has the requests in their order."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.routes: dict[str, Route] = {}
        self.seen: list[BaseHTTPRequestHandler] = []
        self.stopped = threading.Event()

    @property
    def port(self) -> int:
        """The free port that was found."""
        return int(self.server_address[1])

    def url(self, path: str) -> str:
        """The URL of a path on this server."""
        return f"http://127.0.0.1:{self.port}{path}"

    def answer(self, path: str, body: bytes = b"", status: int = 200, **headers: str) -> None:
        """Makes a path answer with a body; underscores in the names of headers stand for hyphens."""

        def route(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            for name, value in {"Content_Length": str(len(body)), **headers}.items():
                handler.send_header(name.replace("_", "-"), value)
            handler.end_headers()
            handler.wfile.write(body)

        self.routes[path] = route

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up on purpose here."""


@pytest.fixture
def server() -> Iterator[ImageServer]:
    """A running server, stopped after the test."""
    image_server = ImageServer()
    thread = threading.Thread(target=image_server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield image_server
    image_server.stopped.set()
    image_server.shutdown()
    image_server.server_close()
    thread.join()


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Sets the resolver's answers, one list per question, the last one for ever; returns the names it was asked."""

    def install(*answers: list[str]) -> list[str]:
        asked: list[str] = []

        def answer(host: str, port: int) -> list[str]:
            asked.append(host)
            return answers[min(len(asked), len(answers)) - 1]

        monkeypatch.setattr(downloads, "resolve", answer)
        return asked

    return install


@pytest.fixture
def connected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Leads each connection, whatever its address, to this machine; returns the addresses that were asked for."""
    addresses: list[str] = []
    really_connect = httpcore.SyncBackend.connect_tcp

    def connect(self: Any, host: str, port: int, *others: Any) -> httpcore.NetworkStream:
        addresses.append(host)
        return really_connect(self, "127.0.0.1", port, *others)

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect)
    return addresses
