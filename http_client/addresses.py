"""Server addresses as users write them: with or without `/v1`, trailing slashes, or the path of an endpoint."""

from __future__ import annotations

import ipaddress
import re
import socket
from urllib.parse import urlsplit

_VERSION = re.compile(r"/v\d[^/]*(?:/|$)")
_ENDPOINT = re.compile(
    r"/(?:chat/completions|completions|responses|embeddings|models|images/generations|images/edits|videos(?:/sync)?"
    r"|audio/(?:speech|voices)|messages)$"
)


def root_of(address: str) -> str:
    """A server's address without `/v1`, the path of an endpoint, and trailing slashes.

    A version other than `/v1`, or one in the middle, is part of the address. Text that is not a URL is returned
    unchanged.
    """
    scheme, mark, rest = address.strip().partition("://")
    if not mark:
        return address
    rest = re.sub(r"/{2,}", "/", rest.partition("#")[0].partition("?")[0]).rstrip("/")
    host, slash, path = rest.partition("/")
    path = slash + path
    if _VERSION.search(_ENDPOINT.sub("/", path)):
        path = _ENDPOINT.sub("", path)
    elif path.endswith("/chat/completions"):
        path = path.removesuffix("/chat/completions")
    return f"{scheme.lower()}://{host}{path.removesuffix('/v1').rstrip('/')}"


def api_of(address: str) -> str:
    """The base URL of the OpenAI API: the address with its version, `/v1` by default."""
    root = root_of(address)
    return root if _VERSION.search(root.partition("//")[2]) else f"{root}/v1"


def host_of(address: str) -> str:
    """The host name in lower case; "" where there is none."""
    try:
        return (urlsplit(address).hostname or "").rstrip(".")
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Whether a host name or address means the machine itself: `localhost`, 127.0.0.1, or "all addresses" 0.0.0.0."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def is_on_this_machine(url: str) -> bool:
    """Whether a URL leads to this machine, without asking a name server."""
    host = host_of(url)
    if is_loopback(host) or host == socket.gethostname().casefold():
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((host, 0))  # only an address of this machine can be bound to
        except OSError:
            return False
    return True
