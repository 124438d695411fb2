"""Servers' addresses as people write them: with `/v1` or without, with slashes at the end, down to an endpoint."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_VERSION = re.compile(r"/v\d[^/]*(?:/|$)")
_ENDPOINT = re.compile(
    r"/(?:chat/completions|completions|responses|embeddings|models|images/generations|images/edits|videos(?:/sync)?"
    r"|audio/(?:speech|voices)|messages)$"
)


def root_of(address: str) -> str:
    """A server's address without `/v1`, without the path of an endpoint behind that and without slashes at its end.

    Another version than `/v1`, or one in the middle, stays: it is part of the address. What is no URL is returned as
    it is.
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
    """Where the paths of the OpenAI API begin: the address with its version, `/v1` where it has none."""
    root = root_of(address)
    return root if _VERSION.search(root.partition("//")[2]) else f"{root}/v1"


def host_of(address: str) -> str:
    """The host's name in lower case; "" where there is none."""
    try:
        return (urlsplit(address).hostname or "").rstrip(".")
    except ValueError:
        return ""
