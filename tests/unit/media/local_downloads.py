"""Downloads from the test server on this machine."""

from __future__ import annotations

from typing import Any

from media.network.downloads import fetch

LOCAL = ("127.0.0.1",)
PUBLIC = "93.184.216.34"


def get(url: str, max_bytes: int = 100_000, timeout_s: float = 10, hosts: tuple[str, ...] = LOCAL) -> bytes:
    return fetch(url, max_bytes=max_bytes, timeout_s=timeout_s, allowed_hosts=hosts)


def redirect(server: Any, path: str, location: str, status: int = 302) -> None:
    server.answer(path, status=status, Location=location)
