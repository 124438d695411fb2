"""The row about how clients come."""

from __future__ import annotations

import socket

import pytest

from cli.check.findings import Finding, State
from cli.check.transport import transport
from tests.unit.cli.conftest import MakeServices

LONG = "0123456789abcdef"
HTTP = {"VLLM_TRANSPORT": "http", "VLLM_HTTP_PORT": "0"}


def only(findings: list[Finding]) -> Finding:
    """The one row of a check."""
    (finding,) = findings
    return finding


@pytest.mark.parametrize(
    ("environment", "state", "words"),
    [
        ({}, State.OK, "stdio"),
        (HTTP, State.OK, "127.0.0.1, any free port: only this machine can connect"),
        ({**HTTP, "VLLM_TRANSPORT": "sse"}, State.OK, "HTTP (sse)"),
        ({**HTTP, "VLLM_HTTP_HOST": "0.0.0.0"}, State.PROBLEM, "Set VLLM_HTTP_TOKENS"),
        ({**HTTP, "VLLM_HTTP_HOST": "0.0.0.0", "VLLM_HTTP_TOKENS": LONG}, State.OK, "1 token. There is no TLS"),
        ({**HTTP, "VLLM_HTTP_TOKENS": f"{LONG},{LONG}2"}, State.OK, "2 tokens."),
        ({**HTTP, "VLLM_HTTP_TOKENS": f"{LONG},short"}, State.WARNING, "short enough to be guessed"),
        ({**HTTP, "VLLM_HTTP_HOST": "no such host"}, State.PROBLEM, "VLLM_HTTP_HOST"),
    ],
)
def test_transport(environment: dict[str, str], state: State, words: str, make_services: MakeServices) -> None:
    found = only(transport(make_services(**environment)))
    assert (found.state, words in found.text) == (state, True), found
    assert LONG not in found.text
    assert "short," not in found.text


def test_port_that_is_taken(make_services: MakeServices) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        found = only(transport(make_services(VLLM_TRANSPORT="http", VLLM_HTTP_PORT=port)))
    assert found.state is State.PROBLEM
    assert "--port" in found.text
