"""Access control: bearer tokens, and the Host and Origin headers against DNS rebinding."""

from __future__ import annotations

import hmac
import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException

from settings.server import HttpSettings

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class AccessControl:
    """Checks the headers of requests before their bodies are read.

    If other machines can connect, a token is required, which no web page can make a browser send. Any `Host` is then
    accepted unless the settings name some.

    Arguments:
        settings: tokens, allowed hosts and allowed origins.
        is_loopback: only this machine can connect.
    """

    def __init__(self, settings: HttpSettings, is_loopback: bool) -> None:
        self._tokens = [token.encode() for token in settings.tokens]
        self._is_loopback = is_loopback
        self._any_host = not is_loopback and not settings.allowed_hosts
        named = {_name_of(host) for host in (settings.host, *settings.allowed_hosts)}
        self._hosts = LOOPBACK_NAMES | {host.casefold() for host in settings.allowed_hosts} | named
        self._origins = {origin.rstrip("/").casefold() for origin in settings.allowed_origins}

    def check_host(self, headers: Headers) -> None:
        """Rejects a request for a host that is not this server; raises `HTTPException`."""
        hosts = headers.getlist("host")
        if len(hosts) != 1:
            raise HTTPException(400, "The request needs one Host header.")
        host = hosts[0].casefold()
        if not self._any_host and host not in self._hosts and _name_of(host) not in self._hosts:
            text = "The Host header does not name this server. Add the name to VLLM_HTTP_ALLOWED_HOSTS."
            raise HTTPException(403, text)

    def origin(self, headers: Headers) -> str | None:
        """The origin of the web page that sends the request; None if it is not a browser.

        Raises: `HTTPException` for an origin that is not allowed.
        """
        origins = headers.getlist("origin")
        if not origins:
            return None
        origin = origins[0]
        if len(origins) == 1 and (origin.casefold() in self._origins or self._is_local_page(origin)):
            return origin
        raise HTTPException(
            403, "Pages of this Origin may not call the server. VLLM_HTTP_ALLOWED_ORIGINS can allow it."
        )

    def owner(self, headers: Headers) -> int:
        """The index of the request's token, 0 if no tokens are set.

        Raises: `HTTPException`. Every token is compared, so that the time reveals nothing.
        """
        if not self._tokens:
            return 0
        values = headers.getlist("authorization")
        scheme, _, given = (values[0] if len(values) == 1 else "").partition(" ")
        token = given.strip().encode("utf-8", "replace")
        matches = [hmac.compare_digest(token, known) for known in self._tokens]
        if scheme.casefold() != "bearer" or not any(matches):
            text = "A valid token is required: send the header 'Authorization: Bearer TOKEN'."
            raise HTTPException(401, text, {"WWW-Authenticate": "Bearer"})
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
    """Whether only this machine can connect to an IP address."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _name_of(host: str) -> str:
    """A host without port and brackets."""
    host = host.casefold()
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        return name if bracket and port[:1] in ("", ":") else host
    return host if host.count(":") > 1 else host.partition(":")[0]
