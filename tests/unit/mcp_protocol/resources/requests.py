"""Requests about resources and prompts in each revision."""

from __future__ import annotations

from tests.mcp_results import MODERN, Json, check_result
from tests.unit.mcp_protocol.host import Host, modern


def ask(host: Host, version: str, method: str, params: Json) -> Json:
    """Sends one request in a revision, after the handshake that it needs."""
    if version == MODERN:
        return host.request(method, modern(**params))
    host.initialize(version)
    return host.request(method, params)


def result(host: Host, version: str, method: str, params: Json) -> Json:
    """The result of one request, checked against the revision."""
    return check_result(method, version, ask(host, version, method, params))
