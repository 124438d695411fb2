"""Reading and listing resources."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_protocol.jsonrpc import ProtocolError
from mcp_protocol.resources.registry import ResourceRegistry
from mcp_protocol.versions import Revision

MODERN = Revision("2026-07-28")


STRANGE_IDS = ["plain", "../model", "a/b?c#d", "Größe 日本", "%2e%2e", "a b", "{x}", "~", "."]


Json = dict[str, Any]


def read(shown: ResourceRegistry, uri: str) -> Json:
    """The contents of one resource."""
    _, kind = shown.kind({"uri": uri}, MODERN)
    (contents,) = shown.read(uri, kind, MODERN)["contents"]
    assert contents["uri"] == uri
    found: Json = contents
    return found


def refused(shown: ResourceRegistry, uri: str) -> ProtocolError:
    """Why a resource is not read."""
    with pytest.raises(ProtocolError) as caught:
        read(shown, uri)
    return caught.value


def uris(shown: ResourceRegistry) -> list[str]:
    """All resources of the first page."""
    return [resource.uri for resource in shown.resources({})["resources"]]


def file_uris(shown: ResourceRegistry) -> list[str]:
    """All written files."""
    return [uri for uri in uris(shown) if uri.startswith("file:")]
