"""Who is let in: tokens in constant time, and Host and Origin against pages that point their name at this machine."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from typing import Protocol
from urllib.parse import urlsplit

from mcp_protocol.http.options import HttpOptions

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class Headers(Protocol):
    """The headers of a request; names in any case."""

    def getlist(self, key: str) -> list[str]:
        """All values of one header."""


class Refused(Exception):
    """A request that goes no further: the status of HTTP and a sentence for the caller."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = dict(headers or {})


class Guard:
    """Checks requests before anything of them but the headers is read.

    `is_loopback` tells whether only this machine can reach the server. Where others can, a token is asked for, which
    no page can make a browser send; so any `Host` will do there unless the options name some.
    """

    def __init__(self, options: HttpOptions, is_loopback: bool) -> None:
        self._tokens = [token.encode() for token in options.tokens]
        self._is_loopback = is_loopback
        self._any_host = not is_loopback and not options.allowed_hosts
        named = {_name_of(host) for host in (options.host, *options.allowed_hosts)}
        self._hosts = LOOPBACK_NAMES | {host.casefold() for host in options.allowed_hosts} | named
        self._origins = {origin.rstrip("/").casefold() for origin in options.allowed_origins}

    def check_host(self, headers: Headers) -> None:
        """Refuses a request that was sent to a name that is not ours.

        Raises: `Refused`.
        """
        hosts = headers.getlist("host")
        if len(hosts) != 1:
            raise Refused(400, "The request needs one Host header.")
        host = hosts[0].casefold()
        if not self._any_host and host not in self._hosts and _name_of(host) not in self._hosts:
            text = "The Host header names none of this server's hosts. VLLM_HTTP_ALLOWED_HOSTS can allow it."
            raise Refused(403, text)

    def origin(self, headers: Headers) -> str | None:
        """The page that a browser sends the request for; None where it is no browser.

        Raises: `Refused`, for a page that may not.
        """
        origins = headers.getlist("origin")
        if not origins:
            return None
        origin = origins[0]
        if len(origins) == 1 and (origin.casefold() in self._origins or self._is_local_page(origin)):
            return origin
        raise Refused(403, "The Origin header names a page that may not call this server: VLLM_HTTP_ALLOWED_ORIGINS.")

    def owner(self, headers: Headers) -> int:
        """Whose request it is: the number of its token, 0 where none are asked for.

        Raises: `Refused`. All tokens are compared, so that the time tells nothing of which came near.
        """
        if not self._tokens:
            return 0
        values = headers.getlist("authorization")
        scheme, _, given = (values[0] if len(values) == 1 else "").partition(" ")
        token = given.strip().encode("utf-8", "replace")
        matches = [hmac.compare_digest(token, known) for known in self._tokens]
        if scheme.casefold() != "bearer" or not any(matches):
            text = "A valid token is needed: send the header 'Authorization: Bearer TOKEN'."
            raise Refused(401, text, {"WWW-Authenticate": "Bearer"})
        return matches.index(True)

    def _is_local_page(self, origin: str) -> bool:
        if not self._is_loopback:
            return False
        try:
            parts = urlsplit(origin)
            return parts.scheme in ("http", "https") and parts.hostname in LOOPBACK_NAMES
        except ValueError:
            return False


def is_loopback(address: str) -> bool:
    """Whether an IP address is one that only this machine reaches."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _name_of(host: str) -> str:
    """A host without its port and brackets."""
    host = host.casefold()
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        return name if bracket and port[:1] in ("", ":") else host
    return host if host.count(":") > 1 else host.partition(":")[0]
