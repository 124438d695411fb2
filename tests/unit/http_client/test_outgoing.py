"""Trust and ways out: authorities of one's own, and the proxy that a setting names."""

from __future__ import annotations

import asyncio
import base64
import gzip
import socket
import ssl
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from http_client.bodies import BodyTooLong, UnreadableBody, body_of
from http_client.failures import ConnectionFailure, Trouble, TrustProblem, failure_of
from http_client.outgoing import Outgoing
from settings import NetworkSettings
from tests.certificates import Authority

ROOT = Path(__file__).parents[3]


class Web(ThreadingHTTPServer):
    """Answers every request with `body`; `seen` are the targets and who authorises them."""

    daemon_threads = True

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, str | None]] = []
        self.body, self.headers, self.status = b"well", {}, 200
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    headers: dict[str, str]

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up at the certificate are meant to."""


class _Handler(BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        self.server.seen.append((self.path, self.headers["Proxy-Authorization"]))
        self.send_response(self.server.status)
        for name, value in self.server.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def do_CONNECT(self) -> None:
        self.server.seen.append((self.path, self.headers["Proxy-Authorization"]))
        self.send_response(self.server.status)
        self.end_headers()
        if self.server.status == 200:
            self._pass_on(socket.create_connection(("127.0.0.1", int(self.path.rpartition(":")[2])), 5))

    def _pass_on(self, there: socket.socket) -> None:
        def pump(source: socket.socket, sink: socket.socket) -> None:
            while data := source.recv(65_536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

        back = threading.Thread(target=pump, args=(there, self.connection), daemon=True)
        back.start()
        pump(self.connection, there)
        back.join(5)
        there.close()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def web() -> Iterator[Web]:
    made = Web()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def secure(authority: Authority) -> Iterator[Web]:
    made = Web(authority.server_context("localhost"))
    yield made
    made.shutdown()
    made.server_close()


def asked(url: str, **settings: Any) -> str | ConnectionFailure:
    """The body that a client of these settings gets, or why it gets none."""
    outgoing = Outgoing(NetworkSettings(**settings))

    async def ask() -> str:
        async with outgoing.client(url) as client:
            return (await client.get(url)).text

    try:
        return asyncio.run(ask())
    except Exception as error:
        return failure_of(error, "https://h", "LAB_URL", through_proxy=outgoing.proxy_for(url) is not None)


def test_authority_of_the_settings_is_trusted(authority: Authority, secure: Web, tmp_path: Path) -> None:
    url = f"https://localhost:{secure.port}/"
    found = asked(url)
    assert isinstance(found, ConnectionFailure)
    assert found.trouble is Trouble.CERTIFICATE
    assert "it is not trusted" in found.text
    assert "Set VLLM_CA_FILE (or SSL_CERT_FILE)" in found.text
    assert asked(url, ca_file=str(authority.file)) == "well"
    assert asked(url, ssl_cert_file=str(authority.file)) == "well"
    folder = tmp_path / "certificates"
    folder.mkdir()
    name = subprocess.run(
        ["openssl", "x509", "-hash", "-noout", "-in", str(authority.file)], capture_output=True, text=True, check=False
    ).stdout.strip()
    if name:
        (folder / f"{name}.0").write_bytes(authority.file.read_bytes())
        assert asked(url, ssl_cert_dir=f"/nowhere:{folder}") == "well"
        assert asked(url, ca_file=str(folder)) == "well"


def test_what_is_wrong_with_a_certificate_is_told(authority: Authority) -> None:
    for names, days, told in ((("127.0.0.1",), -1, "it has expired"), (("other.example",), 1, "for another name")):
        web = Web(authority.server_context(*names, days=days))
        found = asked(f"https://127.0.0.1:{web.port}/", ca_file=str(authority.file))
        assert isinstance(found, ConnectionFailure)
        assert (found.trouble, told in found.text) == (Trouble.CERTIFICATE, True)
        web.shutdown()
        web.server_close()


def test_setting_that_cannot_be_used_stops_https_only(web: Web, tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("nothing")
    for name, why in (("none.pem", "the file does not exist"), ("no.pem", "no certificate in PEM format")):
        file = tmp_path / name
        found = asked("https://localhost:1/", ca_file=str(file))
        assert isinstance(found, ConnectionFailure)
        assert found.trouble is Trouble.TRUST
        assert why in found.text
        assert str(tmp_path) not in found.text
        assert asked(f"http://127.0.0.1:{web.port}/", ca_file=str(file)) == "well"
        with pytest.raises(TrustProblem, match="VLLM_CA_FILE"):
            Outgoing(NetworkSettings(ca_file=str(file))).tls_context()
    assert Outgoing(NetworkSettings(ssl_cert_file="/left/over.pem")).tls_context().get_ca_certs() != []


def test_plain_http_where_https_is_asked_for(web: Web) -> None:
    found = asked(f"https://127.0.0.1:{web.port}/")
    assert isinstance(found, ConnectionFailure)
    assert found.trouble is Trouble.NO_TLS
    assert "write http:// in LAB_URL" in found.text


def test_nobody_there() -> None:
    assert asked("http://127.0.0.1:1/") == ConnectionFailure(Trouble.UNREACHABLE)
    found = asked("http://no-such-host.invalid/")
    assert isinstance(found, ConnectionFailure)
    assert found.trouble in (Trouble.NO_HOST, Trouble.UNREACHABLE)


def test_proxy_of_the_setting_is_used_for_http_and_https(
    authority: Authority, secure: Web, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    settings = {"proxy_url": f"http://me:word@127.0.0.1:{web.port}", "ca_file": str(authority.file)}
    authorised = "Basic " + base64.b64encode(b"me:word").decode()
    assert asked("http://models.example/v1/models", **settings) == "well"
    assert asked(f"https://localhost:{secure.port}/x", **settings) == "well"
    assert web.seen == [("http://models.example/v1/models", authorised), (f"localhost:{secure.port}", authorised)]
    assert secure.seen == [("/x", None)]


def test_proxy_that_refuses_is_blamed(web: Web) -> None:
    web.status = 407
    found = asked("https://models.example/", proxy_url=f"http://127.0.0.1:{web.port}")
    assert isinstance(found, ConnectionFailure)
    assert found.trouble is Trouble.PROXY
    assert "requires a user and a password" in found.text
    found = asked("http://models.example/", proxy_url="http://127.0.0.1:1")
    assert isinstance(found, ConnectionFailure)
    assert found.text.startswith("Cannot connect to the proxy of VLLM_PROXY_URL")


def test_hosts_that_are_reached_without_the_proxy() -> None:
    far = Outgoing(NetworkSettings(proxy_url="http://proxy.example:3128", no_proxy=("lab.example", ".lan", "10.0.0.7")))
    for address in (
        "http://localhost:8000",
        "http://127.0.0.1",
        "http://[::1]/v1",
        "http://a.b.lan",
        "http://10.0.0.7",
    ):
        assert far.proxy_for(address) is None, address
    for address in ("https://api.openai.com/v1", "http://mylab.example.org", "http://10.0.0.70", "http://lan.example"):
        assert far.proxy_for(address) == "http://proxy.example:3128", address
    assert Outgoing().proxy_for("https://api.openai.com") is None


def body(web: Web, max_bytes: int = 1_000_000, *, cut: bool = False) -> bytes:
    async def ask() -> bytes:
        url = f"http://127.0.0.1:{web.port}/"
        async with Outgoing().client(url) as client, client.stream("GET", url) as response:
            return await body_of(response, max_bytes, cut=cut)

    return asyncio.run(ask())


def test_compression_that_nobody_asked_for_is_undone(web: Web) -> None:
    bare = zlib.compressobj(wbits=-15)
    for encoding, data in (
        ("gzip", gzip.compress(b"well")),
        ("x-gzip", gzip.compress(b"we") + gzip.compress(b"ll")),
        ("deflate", zlib.compress(b"well")),
        ("deflate", bare.compress(b"well") + bare.flush()),
        ("identity", b"well"),
        ("gzip", b'{"so": "not"}'),
    ):
        web.headers, web.body = {"Content-Encoding": encoding}, data
        assert body(web) in (b"well", b'{"so": "not"}'), encoding


@pytest.mark.slow
def test_what_grows_beyond_its_bound_is_not_read_on(web: Web) -> None:
    web.headers, web.body = {"Content-Encoding": "gzip"}, gzip.compress(bytes(50_000_000))
    with pytest.raises(BodyTooLong):
        body(web)
    assert body(web, 10, cut=True) == bytes(10)


@pytest.mark.parametrize(
    ("encoding", "data"), [("br", b"x"), ("gzip", b"\x1f\x8b\x08\x00" + b"\xff" * 40), ("zstd", b"x")]
)
def test_what_cannot_be_unpacked_says_so(web: Web, encoding: str, data: bytes) -> None:
    web.headers, web.body = {"Content-Encoding": encoding}, data
    with pytest.raises(UnreadableBody, match="compress"):
        body(web)


def test_importing_costs_nothing_heavy() -> None:
    program = (
        "import sys, http_client.outgoing, http_client.refusals, http_client.bodies; "
        "http_client.outgoing.Outgoing(); "
        "print([name for name in ('httpx', 'ssl', 'certifi', 'asyncio') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
