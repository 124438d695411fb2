"""Downloads from a real server on this machine: addresses, redirects, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpcore
import pytest

from media.errors import MediaForbidden, MediaNotFound, MediaUnreadable
from media.network import downloads
from tests.unit.media.local_downloads import PUBLIC, get, redirect


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


def test_redirect_without_a_target_is_an_error(server: Any) -> None:
    server.answer("/", status=302)
    with pytest.raises(MediaUnreadable, match="302"):
        get(server.url("/"))


def test_connection_closed_in_the_middle_is_an_error(server: Any) -> None:
    server.answer("/", b"half", Content_Length="1000")
    with pytest.raises(MediaUnreadable, match="closed the connection"):
        get(server.url("/"))


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: " + b"x" * 200_000])
def test_server_that_speaks_no_http_is_an_error(server: Any, answer: bytes) -> None:
    server.routes["/"] = lambda handler: handler.wfile.write(answer)
    with pytest.raises(MediaUnreadable, match="closed the connection"):
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

    monkeypatch.setattr(downloads, "resolve", unknown)
    with pytest.raises(MediaNotFound, match=r"no-such\.example.*cannot be reached"):
        get("http://no-such.example/")


def test_type_that_the_server_declares_does_not_matter(server: Any) -> None:
    server.answer("/", b"picture", Content_Type="text/html")
    assert get(server.url("/")) == b"picture"


def test_resolver_of_the_system_knows_this_machine() -> None:
    assert "127.0.0.1" in downloads.resolve("127.0.0.1", 80)
