"""A host whose server has resources and prompts."""

from __future__ import annotations

import pytest

from tests.unit.mcp_protocol.conftest import MakeHost
from tests.unit.mcp_protocol.host import Host
from tests.unit.mcp_protocol.resources.shelf import BLOB, Shelf


@pytest.fixture
def shelf() -> Shelf:
    """Two texts and some bytes."""
    shelf = Shelf(one="1", two="2")
    shelf.texts["bytes"] = BLOB
    return shelf


@pytest.fixture
def host(make_host: MakeHost, shelf: Shelf) -> Host:
    """A host whose server has the shelf."""
    return make_host(load_resources=shelf.resource_registry)
