"""URLs are taken in one strict form, and only public addresses pass."""

from __future__ import annotations

import pytest

from media.errors import MediaForbidden
from media.network.addresses import WebAddress, is_public, parse_url


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://example.com", WebAddress("http", "example.com", 80, "/")),
        ("HTTPS://Example.COM./a?b=c#d", WebAddress("https", "example.com", 443, "/a?b=c")),
        ("http://example.com:8080/%20x", WebAddress("http", "example.com", 8080, "/%20x")),
        ("http://example.com:/a", WebAddress("http", "example.com", 80, "/a")),
        ("http://[2606:4700::1]:81/a", WebAddress("http", "2606:4700::1", 81, "/a")),
        ("http://8.8.8.8/a", WebAddress("http", "8.8.8.8", 80, "/a")),
        ("https://bücher.example/ü?ä", WebAddress("https", "xn--bcher-kva.example", 443, "/%C3%BC?%C3%A4")),
        ("http://my_host.example/", WebAddress("http", "my_host.example", 80, "/")),
    ],
)
def test_url_is_taken_apart(url: str, address: WebAddress) -> None:
    assert parse_url(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "http://ok\\@evil.example/",
        "http://example.com\\.evil.example/",
        "http://user:password@example.com/",
        "http://user@example.com/",
        "http://@example.com/",
        "http:///a.png",
        "http:a.png",
        "http://:80/",
        "http://example.com:0/",
        "http://example.com:65536/",
        "http://example.com:８０/",
        "http://example.com:80:80/",
        "http://exa mple.com/",
        "http://example.com/a b",
        " http://example.com/",
        "http://example.com/\r\nHost: evil",
        "http://example.com/\t",
        "http://example.com/\0",
        "http://example.com/\u202e",
        "http://example.com/\ud800",
        "http://[::1]evil/",
        "http://[::1",
        "http://[fe80::1%25eth0]/",
        "http://[v1.x]/",
        "http://%6c%6f%63alhost/",
        "http://exa..mple.com/",
        "http://-example.com/",
        "http://a.com,b.com/",
        "http://" + "a" * 64 + ".com/",
        "http://" + "a." * 130 + "com/",
        "http://\u2260\u200d.example/",
        "http://example.com/" + "a" * 10_000,
        "ftp://example.com/a.png",
        "gopher://example.com/a.png",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "//example.com/a.png",
    ],
)
def test_urls_that_leave_doubt_are_refused(url: str) -> None:
    with pytest.raises(MediaForbidden) as caught:
        parse_url(url)
    assert str(caught.value).isprintable()
    assert "password@" not in str(caught.value)


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "127.1", "127.0.1", "1.2.3.4.5", "256.1.1.1", "0x"]
)
def test_addresses_in_unusual_forms_are_refused(host: str) -> None:
    with pytest.raises(MediaForbidden, match="unusual form"):
        parse_url(f"http://{host}/")


def test_fullwidth_digits_become_an_address_that_is_checked() -> None:
    assert parse_url("http://１２７。０。０。１/").host == "127.0.0.1"


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::808:808"])
def test_public_addresses_pass(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "100.127.255.255",
        "127.0.0.1",
        "127.255.255.254",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "::ffff:0:7f00:1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::808:808",
        "100::1",
        "2001::1",
        "2001:0:4136:e378:8000:63bf:3fff:fdd2",
        "2001:db8::1",
        "2002:7f00:1::",
        "2002:808:808::",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "ff02::1",
        "not an address",
    ],
)
def test_other_addresses_do_not_pass(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    ("url", "hosts", "named"),
    [
        ("http://cat.local/", ["cat.local"], True),
        ("http://CAT.local./", ["Cat.Local."], True),
        ("http://cat.local:81/", ["cat.local"], True),
        ("http://cat.local:81/", ["cat.local:81"], True),
        ("http://cat.local:82/", ["cat.local:81"], False),
        ("http://evil-cat.local/", ["cat.local"], False),
        ("http://cat.local.evil/", ["cat.local"], False),
        ("http://sub.cat.local/", ["cat.local"], False),
        ("http://[::1]:81/", ["::1"], True),
        ("http://[::1]:81/", ["[::1]:81"], True),
        ("http://cat.local/", [], False),
    ],
)
def test_hosts_are_allowed_by_their_exact_name(url: str, hosts: list[str], named: bool) -> None:
    assert parse_url(url).is_one_of(hosts) is named


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/b?c", "https://example.com:444/b?c"),
        ("d", "https://example.com:444/a/d"),
        ("//other.example/e", "https://other.example/e"),
        ("https://other.example/e", "https://other.example/e"),
    ],
)
def test_redirect_is_followed_from_where_it_came(location: str, target: str) -> None:
    assert parse_url("https://example.com:444/a/b").follow(location) == parse_url(target)


@pytest.mark.parametrize(
    "location",
    ["http://example.com/", "file:///etc/passwd", "ftp://x/", "//[", "\\\\evil\\x", "https://a@b/", "data:,x"],
)
def test_redirect_to_another_kind_of_place_is_refused(location: str) -> None:
    with pytest.raises(MediaForbidden):
        parse_url("https://example.com/").follow(location)


def test_host_header_names_only_unusual_ports() -> None:
    assert parse_url("https://[2606:4700::1]:443/").host_header == "[2606:4700::1]"
    assert parse_url("http://example.com:443/").host_header == "example.com:443"
