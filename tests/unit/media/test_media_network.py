"""Downloads: from a real server on this machine, which behaves as badly as servers can."""

from __future__ import annotations

import datetime
import gzip
import ssl
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpcore
import pytest

from http_client.outgoing import Outgoing
from media import network
from media.call_limits import CallLimits
from media.errors import MediaCancelled, MediaError, MediaForbidden, MediaNotFound, MediaTooLarge, MediaUnreadable
from media.network import fetch
from settings import NetworkSettings
from tests.certificates import Authority

LOCAL = ("127.0.0.1",)
PUBLIC = "93.184.216.34"


def get(url: str, max_bytes: int = 100_000, timeout_s: float = 10, hosts: tuple[str, ...] = LOCAL) -> bytes:
    return fetch(url, max_bytes=max_bytes, timeout_s=timeout_s, allowed_hosts=hosts)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Sets the resolver's answers, one list per question, the last one for ever; returns the names it was asked."""

    def install(*answers: list[str]) -> list[str]:
        asked: list[str] = []

        def answer(host: str, port: int) -> list[str]:
            asked.append(host)
            return answers[min(len(asked), len(answers)) - 1]

        monkeypatch.setattr(network, "resolve", answer)
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


def redirect(server: Any, path: str, location: str, status: int = 302) -> None:
    server.answer(path, status=status, Location=location)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "[::]", "localhost.", "127.0.0.1."]
)
def test_this_machine_is_refused(server: Any, host: str) -> None:
    with pytest.raises(MediaForbidden, match="VLLM_ALLOWED_MEDIA_HOSTS"):
        get(f"http://{host}:{server.port}/", hosts=())
    assert server.seen == []


@pytest.mark.parametrize(
    "address", ["169.254.169.254", "10.0.0.1", "100.64.0.1", "fd00:ec2::254", "::1", "64:ff9b::a00:1"]
)
def test_name_of_a_private_address_is_refused_without_naming_it(
    resolver: Any, connected: list[str], address: str
) -> None:
    resolver([address])
    with pytest.raises(MediaForbidden) as caught:
        get("http://innocent.example/", hosts=())
    assert connected == []
    assert "innocent.example" in str(caught.value)
    assert address not in str(caught.value)


def test_one_private_address_among_public_ones_is_refused(resolver: Any, connected: list[str]) -> None:
    resolver([PUBLIC, "10.0.0.1"])
    with pytest.raises(MediaForbidden):
        get("http://mixed.example/", hosts=())
    assert connected == []


def test_host_that_the_settings_allow_may_be_private(server: Any) -> None:
    server.answer("/cat", b"cat")
    assert get(server.url("/cat")) == b"cat"
    assert get(server.url("/cat"), hosts=(f"127.0.0.1:{server.port}",)) == b"cat"
    with pytest.raises(MediaForbidden):
        get(server.url("/cat"), hosts=("127.0.0.1:1", "localhost"))


def test_connection_goes_to_the_address_that_was_checked(server: Any, resolver: Any, connected: list[str]) -> None:
    asked = resolver([PUBLIC], ["127.0.0.1"])
    server.answer("/cat", b"cat")
    assert get(f"http://rebinding.example:{server.port}/cat", hosts=()) == b"cat"
    assert asked == ["rebinding.example"]
    assert connected == [PUBLIC]


def test_redirect_to_a_name_that_rebinds_is_refused(server: Any, resolver: Any, connected: list[str]) -> None:
    resolver([PUBLIC], ["127.0.0.1"])
    redirect(server, "/cat", "/again")
    with pytest.raises(MediaForbidden):
        get(f"http://rebinding.example:{server.port}/cat", hosts=())
    assert connected == [PUBLIC]


def test_next_address_is_tried_when_the_first_is_dead(
    server: Any, resolver: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    really_connect = httpcore.SyncBackend.connect_tcp

    def connect(self: Any, host: str, port: int, *others: Any) -> httpcore.NetworkStream:
        if host == "2606:4700::1":
            raise httpcore.ConnectError
        return really_connect(self, "127.0.0.1", port, *others)

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", connect)
    resolver(["2606:4700::1", PUBLIC])
    server.answer("/cat", b"cat")
    assert get(f"http://two.example:{server.port}/cat", hosts=()) == b"cat"


def test_dead_address_before_a_real_one_costs_only_its_share(server: Any, resolver: Any) -> None:
    """Both are real addresses of this machine; nobody listens on the first."""
    resolver(["127.0.0.2", "127.0.0.1"])
    server.answer("/cat", b"cat")
    url = f"http://two.example:{server.port}/cat"
    assert get(url, hosts=("two.example",)) == b"cat"
    with pytest.raises(MediaForbidden, match="VLLM_ALLOWED_MEDIA_HOSTS"):
        get(url, hosts=())


def test_request_names_the_host_and_carries_no_secret(
    server: Any, resolver: Any, connected: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".netrc").write_text("default login me password secret\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    resolver([PUBLIC])
    redirect(server, "/cat", "/dog")
    server.answer("/cat", status=302, Location="/dog", Set_Cookie="a=b")
    server.answer("/dog", b"dog")
    assert get(f"http://pets.example:{server.port}/cat#fragment", hosts=()) == b"dog"
    first, second = server.seen
    assert first.path == "/cat"
    assert first.headers["Host"] == f"pets.example:{server.port}"
    assert first.headers["Accept-Encoding"] == "identity"
    for header in ("Cookie", "Authorization", "Referer"):
        assert header not in first.headers
        assert header not in second.headers


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(server: Any, status: int) -> None:
    redirect(server, "/1", "/2", status)
    redirect(server, "/2", server.url("/cat"), status)
    server.answer("/cat", b"cat")
    assert get(server.url("/1")) == b"cat"


def test_redirect_loop_ends(server: Any) -> None:
    redirect(server, "/loop", "/loop")
    with pytest.raises(MediaForbidden, match="more than 5 times"):
        get(server.url("/loop"))
    assert len(server.seen) == 6


@pytest.mark.parametrize(
    "location", ["http://127.0.0.2/", "http://localhost/", "http://[::1]/", "http://0x7f.1/", "http://169.254.169.254/"]
)
def test_redirect_to_a_private_address_is_refused(server: Any, location: str) -> None:
    redirect(server, "/", location)
    with pytest.raises(MediaForbidden):
        get(server.url("/"))


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://x/", "http://[", "http://a@b/", "gopher://x/"])
def test_redirect_to_another_scheme_is_refused(server: Any, location: str) -> None:
    redirect(server, "/", location)
    with pytest.raises(MediaForbidden):
        get(server.url("/"))


@pytest.mark.parametrize("size", [99_999, 100_000])
def test_body_up_to_the_limit_is_read(server: Any, size: int) -> None:
    server.answer("/", b"x" * size)
    assert len(get(server.url("/"))) == size


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


def test_picture_dripping_byte_by_byte_ends_at_the_deadline(server: Any) -> None:
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
    monkeypatch.setattr(network, "resolve", lambda *_: server.stopped.wait())
    assert_times_out("http://stuck.example/")


@pytest.mark.parametrize("says_first", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx"])
def test_connection_is_closed_when_the_call_is_cancelled(server: Any, says_first: bytes) -> None:
    asked, cancelled, closed = threading.Event(), threading.Event(), threading.Event()

    def silent(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(says_first)
        asked.set()
        handler.connection.settimeout(10)
        if handler.connection.recv(1) == b"":
            closed.set()

    server.routes["/"] = silent
    with ThreadPoolExecutor(1) as pool:
        limits = CallLimits(cancelled.is_set)
        download = pool.submit(fetch, server.url("/"), max_bytes=100, timeout_s=10, allowed_hosts=LOCAL, limits=limits)
        assert asked.wait(5)
        cancelled.set()
        with pytest.raises(MediaCancelled):
            download.result(timeout=3)
    assert closed.wait(3)


def test_cancelled_call_does_not_wait_for_the_resolver(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled = threading.Event()

    def stuck(*_: Any) -> None:
        cancelled.set()
        server.stopped.wait()

    monkeypatch.setattr(network, "resolve", stuck)
    with pytest.raises(MediaCancelled):
        fetch("http://stuck.example/", max_bytes=100, timeout_s=10, limits=CallLimits(cancelled.is_set))


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


def test_redirect_without_a_target_is_an_error(server: Any) -> None:
    server.answer("/", status=302)
    with pytest.raises(MediaUnreadable, match="302"):
        get(server.url("/"))


def test_connection_closed_in_the_middle_is_an_error(server: Any) -> None:
    server.answer("/", b"half", Content_Length="1000")
    with pytest.raises(MediaUnreadable, match="broke off"):
        get(server.url("/"))


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: " + b"x" * 200_000])
def test_server_that_speaks_no_http_is_an_error(server: Any, answer: bytes) -> None:
    server.routes["/"] = lambda handler: handler.wfile.write(answer)
    with pytest.raises(MediaUnreadable, match="broke off"):
        get(server.url("/"))


def test_port_without_a_server_is_not_found(server: Any) -> None:
    url = server.url("/")
    server.shutdown()
    server.server_close()
    with pytest.raises(MediaNotFound, match="cannot be reached"):
        get(url)


def test_unknown_host_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(host: str, port: int) -> list[str]:
        raise OSError(-2, "Name or service not known")

    monkeypatch.setattr(network, "resolve", unknown)
    with pytest.raises(MediaNotFound, match=r"no-such\.example.*cannot be reached"):
        get("http://no-such.example/")


def test_type_that_the_server_declares_does_not_matter(server: Any) -> None:
    server.answer("/", b"picture", Content_Type="text/html")
    assert get(server.url("/")) == b"picture"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for the name cats.example and its key, in one file."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("cats.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "certificate.pem"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return file


@pytest.fixture
def tls_server(server: Any, certificate: Path, resolver: Any, connected: list[str]) -> Any:
    """The server with TLS; every name leads to it, by way of a public address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    resolver([PUBLIC])
    return server


def test_certificate_is_checked_against_the_name(
    tls_server: Any, certificate: Path, connected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr(network, "_tls_context", lambda: trusting)
    tls_server.answer("/cat", b"cat")
    assert get(f"https://cats.example:{tls_server.port}/cat", hosts=()) == b"cat"
    assert connected == [PUBLIC]
    with pytest.raises(MediaNotFound, match="certificate"):
        get(f"https://dogs.example:{tls_server.port}/cat", hosts=())


def test_unknown_certificate_is_refused(tls_server: Any) -> None:
    with pytest.raises(MediaNotFound, match="certificate"):
        get(f"https://cats.example:{tls_server.port}/", hosts=())
    assert tls_server.seen == []


def test_authority_of_the_settings_is_trusted(server: Any, tmp_path: Path, resolver: Any, connected: list[str]) -> None:
    authority = Authority(tmp_path)
    server.socket = authority.server_context("cats.example").wrap_socket(server.socket, server_side=True)
    server.answer("/cat", b"cat")
    resolver([PUBLIC])
    url = f"https://cats.example:{server.port}/cat"
    with pytest.raises(MediaNotFound, match=r"set VLLM_CA_FILE \(or SSL_CERT_FILE\)"):
        get(url, hosts=())
    trusting = Outgoing(NetworkSettings(ca_file=str(authority.file))).tls_context
    assert fetch(url, max_bytes=100, timeout_s=10, tls_context=trusting) == b"cat"
    unusable = Outgoing(NetworkSettings(ca_file=str(tmp_path / "none"))).tls_context
    with pytest.raises(MediaUnreadable, match="The file of VLLM_CA_FILE cannot be used"):
        fetch(url, max_bytes=100, timeout_s=10, tls_context=unusable)
    assert connected == [PUBLIC, PUBLIC]


def test_redirect_from_https_to_http_is_refused(
    tls_server: Any, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr(network, "_tls_context", lambda: trusting)
    redirect(tls_server, "/", "http://cats.example/")
    with pytest.raises(MediaForbidden, match="from https to http"):
        get(f"https://cats.example:{tls_server.port}/", hosts=())


def test_resolver_of_the_system_knows_this_machine() -> None:
    assert "127.0.0.1" in network.resolve("127.0.0.1", 80)
