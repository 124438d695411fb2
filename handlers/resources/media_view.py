"""The view of MCP Apps as a resource: one HTML page that shows what the tools made or found.

Hosts cache the page by its URI, so the URI has a part of the page's hash. Every URI of this form is answered with the
current page, because old conversations name old ones.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mcp_protocol.resources.resource import Contents, Resource, ResourceNotFound
from mcp_protocol.versions import APPS_MIME_TYPE

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.jsonrpc import Json

VIEWS_BEGIN = "ui://vllm/"
PAGE_FILE = os.path.join(os.path.dirname(__file__), "media_view.html")
META: Json = {"ui": {"csp": {}, "permissions": {"clipboardWrite": {}}, "prefersBorder": True}}
"""No domains: the page loads nothing. Some hosts read this in the list, others in the contents."""


@functools.cache
def _page() -> str:
    with open(PAGE_FILE, encoding="utf-8") as file:
        return file.read()


MEDIA_VIEW = f"{VIEWS_BEGIN}media-{hashlib.sha256(_page().encode()).hexdigest()[:8]}.html"
"""The URI of the view; a tool with the view has it in its row."""


def views(services: Services) -> Iterator[Resource]:
    """The view, if it is offered."""
    if services.settings.server.apps:
        description = "The page that hosts with MCP Apps show for generated media and analyses."
        size = len(_page().encode())
        yield Resource(MEDIA_VIEW, "media view", "Media view", description, APPS_MIME_TYPE, size, META)


def read_view(uri: str, services: Services) -> Contents:
    """The page, for its URI of any version."""
    view_version(uri, services)
    return Contents(APPS_MIME_TYPE, _page(), "", META)


def view_version(uri: str, services: Services) -> object:
    """A constant: the page does not change while the server runs."""
    if not services.settings.server.apps or not uri.startswith(VIEWS_BEGIN + "media-") or not uri.endswith(".html"):
        raise ResourceNotFound
    return MEDIA_VIEW
