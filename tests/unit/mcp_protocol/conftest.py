"""The host that the tests of the protocol talk through."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import pytest

from tests.unit.mcp_protocol.host import Host


class MakeHost(Protocol):
    """Makes a host whose server has these options."""

    def __call__(self, **options: Any) -> Host: ...


@pytest.fixture
def make_host() -> Iterator[MakeHost]:
    """Hosts with options of their own; whatever their tools wait for ends with the test."""
    hosts: list[Host] = []

    def make(**options: Any) -> Host:
        hosts.append(Host(**options))
        return hosts[-1]

    yield make
    for host in hosts:
        host.gates.go_on.set()


@pytest.fixture
def host(make_host: MakeHost) -> Host:
    """A host whose server has the defaults."""
    return make_host()
