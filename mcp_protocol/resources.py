"""What there is to read besides tools: one row a kind of resource, read by the lists and by `resources/read` alike.

ResourceError
├─ ResourceNotFound    there is nothing to read at that URI
└─ ResourceTooLarge    more than one message may hold; `str()` says where else to get it
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from mcp_protocol.jsonrpc import Json, encode
from mcp_protocol.turn import AT_ONCE, Turn
from mcp_protocol.versions import Cache

MAX_BLOB_BYTES = 5_000_000
MAX_READ_BYTES = 7_000_000
"""Largest contents and largest message with them: TypeScript clients drop the connection at 10 MiB a line."""

Complete = Callable[[str, Any], Sequence[str]]
"""Everything that begins with what was typed so far, as `(value, services) -> candidates`."""


class ResourceError(Exception):
    """A resource cannot be read; `str()` is a sentence for the caller."""


class ResourceNotFound(ResourceError):
    """There is no resource of that URI, or nothing that may be read."""


class ResourceTooLarge(ResourceError):
    """The contents are more than one message may hold."""


class Resource(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One entry of `resources/list`; `size` is in bytes."""

    uri: str
    name: str
    title: str | None = None
    description: str | None = None
    mime_type: str | None = None
    size: int | None = None


class ResourceTemplate(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One entry of `resources/templates/list`; `uri_template` is in the form of RFC 6570."""

    uri_template: str
    name: str
    title: str | None = None
    description: str | None = None
    mime_type: str | None = None


class Contents(msgspec.Struct, frozen=True):
    """What was read: text, or bytes. `instead` is a sentence for the caller where it is too much for a message."""

    mime_type: str
    data: str | bytes
    instead: str

    def as_json(self, uri: str) -> Json:
        """The contents as `resources/read` shows them.

        Raises: `ResourceTooLarge`.
        """
        shown: Json = {"uri": uri, "mimeType": self.mime_type}
        if isinstance(self.data, str):
            shown["text"] = self.data
        else:
            self._refuse(len(self.data) > MAX_BLOB_BYTES)
            shown["blob"] = base64.b64encode(self.data).decode()
        self._refuse(len(encode(shown)) > MAX_READ_BYTES)
        return shown

    def _refuse(self, too_large: bool) -> None:
        if too_large:
            raise ResourceTooLarge(f"The resource is too large for one message. {self.instead}")


class ResourceKind(msgspec.Struct, frozen=True):
    """One row of the table. All functions get the services, and raise `ResourceNotFound` for a URI that names nothing.

    `begin` is how the kind's URIs begin, or the one URI it has. `resources` lists what there is now, `read` reads one
    resource, and `version` gives a value that is another one after its contents changed (None while it does not
    exist). `complete` has a function for each variable of the template. With `on_worker`, `read` runs in the queue
    of calls, since it may take its time, and after the calls before it that have the `key` of its URI; the other
    functions are for any thread.
    """

    begin: str
    resources: Callable[[Any], Iterable[Resource]]
    read: Callable[[str, Any], Contents]
    version: Callable[[str, Any], object]
    cache: Cache
    template: ResourceTemplate | None = None
    complete: Mapping[str, Complete] = {}
    on_worker: bool = False
    key: Callable[[str], str] | None = None

    def turn(self, uri: str) -> Turn:
        """The place of a read among the calls in the queue."""
        return AT_ONCE if self.key is None else Turn(frozenset([self.key(uri)]), at_once=True)

    def serves(self, uri: str) -> bool:
        """Whether a URI is one of this kind."""
        return uri == self.begin or (self.begin.endswith(("/", ":")) and uri.startswith(self.begin))
