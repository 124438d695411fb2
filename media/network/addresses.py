"""Parses URLs strictly, and tells public IP addresses from others.

A URL is parsed once, and the connection is made from the parts, so no second parser can find another host in it
(CVE-2026-24779).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

from media.errors import MediaForbidden, shown

MAX_URL_CHARS = 8_192
_DEFAULT_PORTS = {"http": 80, "https": 443}
_AUTHORITY = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:@]+))(?::(?P<port>[0-9]{0,5}))?")
_HOST_NAME = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PRINTABLE_ASCII = "".join(map(chr, range(0x21, 0x7F)))

_UNICAST_V6 = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# Older Pythons report some of these as global (CVE-2024-4032); 6to4 and Teredo (in 2001::/23) contain an IPv4 address.
_SPECIAL = tuple(
    map(
        ipaddress.ip_network,
        ("100.64.0.0/10", "192.0.0.0/24", "192.88.99.0/24", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
)


@dataclass(frozen=True, slots=True)
class WebAddress:
    """The parts of an http or https URL.

    `host` is a lower-case ASCII name without a trailing dot, or an IP address without brackets. `target` is the path
    with its query, percent-encoded.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def host_header(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def follow(self, location: str) -> WebAddress:
        """The target of a redirect; raises `MediaForbidden` as `parse_url` does, and for https to http."""
        try:
            url = urljoin(f"{self.scheme}://{self.host_header}{self.target}", location)
        except ValueError:
            raise MediaForbidden(f"The host {shown(self.host)} redirects to a URL that is not valid.") from None
        target = parse_url(url)
        if self.scheme == "https" and target.scheme == "http":
            raise MediaForbidden(f"The host {shown(self.host)} redirects from https to http.")
        return target

    def is_one_of(self, hosts: Collection[str]) -> bool:
        """Whether `hosts` contains this host, alone or as `host:port`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        names = (self.host, host, f"{host}:{self.port}")
        return any(entry.casefold().rstrip(".") in names for entry in hosts)


def parse_url(url: str) -> WebAddress:
    """Parses an http or https URL; raises `MediaForbidden` for every ambiguous form."""
    if len(url) > MAX_URL_CHARS:
        raise MediaForbidden(f"The URL is longer than {MAX_URL_CHARS} characters.")
    if any(char in " \\" or not char.isprintable() for char in url):
        raise MediaForbidden(f"The URL {shown(url)} has spaces, backslashes or control characters; encode them as %20.")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise MediaForbidden(f"The URL {shown(url)} is not valid.") from None
    if parts.scheme not in _DEFAULT_PORTS:
        raise MediaForbidden(f"The URL {shown(url)} is not supported; only http, https, data and file URLs are.")
    if "@" in parts.netloc:
        raise MediaForbidden("The URL has a user name or password; media are downloaded without credentials.")
    authority = _AUTHORITY.fullmatch(parts.netloc)
    port = int(authority["port"] or _DEFAULT_PORTS[parts.scheme]) if authority else 0
    if not authority or not 0 < port < 65_536:
        raise MediaForbidden(f"The URL {shown(url)} has no valid host and port.")
    host = _host(authority["v6"], authority["name"])
    target = quote(parts.path or "/", safe=_PRINTABLE_ASCII)
    if parts.query:
        target += "?" + quote(parts.query, safe=_PRINTABLE_ASCII)
    return WebAddress(parts.scheme, host, port, target)


def is_public(address: str) -> bool:
    """Whether an IP address is on the public internet: not private, local, reserved, multicast or a tunnel."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(ip.packed[-4:])))
        # Addresses that contain an IPv4 address (::ffff:0:0/96 and others) are outside this block.
        if ip not in _UNICAST_V6:
            return False
    if ip.is_multicast or ip.is_reserved or not ip.is_global:
        return False
    return not any(ip in network for network in _SPECIAL if network.version == ip.version)


def _host(v6: str | None, name: str) -> str:
    if v6 is not None:
        try:
            return str(ipaddress.IPv6Address(v6))
        except ValueError:
            raise MediaForbidden(f"The host {shown(v6)} is not a valid address.") from None
    if not name.isascii():
        name = _idna(name)
    host = name.lower().removesuffix(".")
    if len(host) > 253 or not _HOST_NAME.fullmatch(host):
        raise MediaForbidden(f"The host {shown(name)} is not a valid name.")
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            # Some resolvers take 2130706433, 0x7f.1 and 0177.0.0.1 as 127.0.0.1, others do not.
            raise MediaForbidden(f"The host {shown(name)} is an address in an unusual form.") from None
    return host


def _idna(name: str) -> str:
    import idna

    try:
        return idna.encode(name, uts46=True).decode("ascii")
    except UnicodeError:
        raise MediaForbidden(f"The host {shown(name)} is not a valid name.") from None
