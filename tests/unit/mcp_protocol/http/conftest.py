"""Servers over HTTP for the tests of the transport."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import pytest

from tests.unit.mcp_protocol.http.web import Web


class MakeWeb(Protocol):
    """Makes a server with these options."""

    def __call__(self, **options: Any) -> Web: ...


@pytest.fixture
def make_web() -> Iterator[MakeWeb]:
    """Servers with options of their own; they end with the test."""
    webs: list[Web] = []

    def make(**options: Any) -> Web:
        webs.append(Web(**options))
        return webs[-1]

    yield make
    for web in webs:
        web.__exit__(None, None, None)


@pytest.fixture
def web(make_web: MakeWeb) -> Web:
    """A server with the defaults."""
    return make_web()
