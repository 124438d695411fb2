"""What the transport over HTTP is told."""

from __future__ import annotations

import msgspec


class HttpOptions(msgspec.Struct, frozen=True):
    """Where to listen, whom to let in, and the limits.

    Arguments:
        host, port: where to listen; port 0 takes a free one.
        tokens: bearer tokens, one of which each request must carry; none are asked for where there are none.
        allowed_hosts: names in the `Host` header beside the loopback ones and `host`.
        allowed_origins: web pages that may call, e.g. https://example.com, beside those of this machine.
        sse: also serve the older transport of two endpoints, /sse and /messages.
        proxies: addresses or networks of proxies, each of which has many clients behind it.
        max_body_bytes: longest body of a request.
        max_sessions: clients of one owner that are remembered at a time, for each of the two transports.
        session_idle_s: how long a client may be silent before it is forgotten.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    tokens: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    proxies: tuple[str, ...] = ()
    sse: bool = False
    max_body_bytes: int = 64 << 20
    max_sessions: int = 100
    session_idle_s: float = 3600.0
