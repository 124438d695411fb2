"""The table of resources: one row per kind, used by the lists and by `resources/read`.

ResourceError
├─ ResourceNotFound    no resource has this URI
└─ ResourceTooLarge    too large for one message; `str()` says how else to get it
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from mcp_protocol.calls.scheduling_policy import BYPASS_QUEUE, SchedulingPolicy
from mcp_protocol.jsonrpc import Json, encode
from mcp_protocol.versions import Cache

MAX_BLOB_BYTES = 5_000_000
MAX_READ_BYTES = 7_000_000
"""Largest binary contents and largest message: TypeScript clients disconnect at lines of 10 MiB."""

Complete = Callable[[str, Any], Sequence[str]]
"""`(value, services) -> completions`: all values that start with `value`."""


class ResourceError(Exception):
    """A resource cannot be read; `str()` says why."""


class ResourceNotFound(ResourceError):
    """No readable resource has this URI."""


class ResourceTooLarge(ResourceError):
    """The contents are too large for one message."""


class Resource(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One entry of `resources/list`; `size` is in bytes, and `meta` is its `_meta`."""

    uri: str
    name: str
    title: str | None = None
    description: str | None = None
    mime_type: str | None = None
    size: int | None = None
    meta: Json | None = msgspec.field(default=None, name="_meta")


class ResourceTemplate(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel"):
    """One entry of `resources/templates/list`; `uri_template` is in the form of RFC 6570."""

    uri_template: str
    name: str
    title: str | None = None
    description: str | None = None
    mime_type: str | None = None


class Contents(msgspec.Struct, frozen=True):
    """The contents of a resource. `instead` says how else to get them if they are too large for a message; `meta` is
    their `_meta`."""

    mime_type: str
    data: str | bytes
    instead: str
    meta: Json | None = None

    def as_json(self, uri: str) -> Json:
        """The entry of `contents` in the result of `resources/read`; raises `ResourceTooLarge`."""
        entry: Json = {"uri": uri, "mimeType": self.mime_type}
        if isinstance(self.data, str):
            entry["text"] = self.data
        else:
            self._check_size(len(self.data), MAX_BLOB_BYTES)
            entry["blob"] = base64.b64encode(self.data).decode()
        if self.meta is not None:
            entry["_meta"] = self.meta
        self._check_size(len(encode(entry)), MAX_READ_BYTES)
        return entry

    def _check_size(self, n_bytes: int, max_bytes: int) -> None:
        if n_bytes > max_bytes:
            raise ResourceTooLarge(f"The resource is too large for one message. {self.instead}")


class ResourceKind(msgspec.Struct, frozen=True):
    """One row of the table. The functions get the services; they raise `ResourceNotFound` for an unknown URI.

    Arguments:
        prefix: the prefix of the kind's URIs, or its only URI.
        resources: lists the current resources.
        read: reads one resource.
        version: a value that changes with the contents; None while the resource does not exist.
        complete: completions of the template's variables.
        on_worker: `read` is slow and runs in the queue of calls; all other functions run on any thread.
        key: the `SchedulingPolicy` key of a URI: a read waits for earlier calls with this key.
    """

    prefix: str
    resources: Callable[[Any], Iterable[Resource]]
    read: Callable[[str, Any], Contents]
    version: Callable[[str, Any], object]
    cache: Cache
    template: ResourceTemplate | None = None
    complete: Mapping[str, Complete] = {}
    on_worker: bool = False
    key: Callable[[str], str] | None = None

    def policy(self, uri: str) -> SchedulingPolicy:
        """The scheduling of a read in the queue of calls."""
        return BYPASS_QUEUE if self.key is None else SchedulingPolicy(frozenset([self.key(uri)]), bypass_queue=True)

    def serves(self, uri: str) -> bool:
        """Whether a URI belongs to this kind."""
        return uri == self.prefix or (self.prefix.endswith(("/", ":")) and uri.startswith(self.prefix))
