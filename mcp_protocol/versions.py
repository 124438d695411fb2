"""MCP's revisions: which one a request speaks, and what that changes in the answer.

The era is decided per request. Parameters whose `_meta` names a protocol version are "modern" (2026-07-28 and later:
stateless, no handshake); everything else is "legacy" and speaks the revision that `initialize` settled, or 2024-11-05
where nobody initialized (people pipe single lines into this server). Fields that a later legacy revision added, such
as `structuredContent`, are sent to older ones too: all clients ignore them, and their users profit. Content blocks of
an unknown type break clients, so those are held back.
"""

from __future__ import annotations

from typing import Any

import msgspec

from mcp_protocol.jsonrpc import INVALID_PARAMS, Json, ProtocolError

LEGACY = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
MODERN = ("2026-07-28",)
SUPPORTED = MODERN + LEGACY
WITHOUT_HANDSHAKE = "2024-11-05"
BATCHES = "2025-03-26"
"""The one revision in which a line may hold several messages."""

MODERN_ONLY = ("server/discover", "subscriptions/listen")
"""Methods that no legacy revision has: a request for one that has no envelope forgot it."""

META_VERSION = "io.modelcontextprotocol/protocolVersion"
META_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
META_LOG_LEVEL = "io.modelcontextprotocol/logLevel"
META_SERVER_INFO = "io.modelcontextprotocol/serverInfo"

UNSUPPORTED_VERSION = -32022
RESOURCE_NOT_FOUND = -32002

LOG_LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")


class Revision(msgspec.Struct, frozen=True):
    """One revision of the protocol, as far as answers differ."""

    name: str

    @property
    def modern(self) -> bool:
        """Whether requests stand alone, with their envelope in `_meta`."""
        return self.name in MODERN

    @property
    def not_found_code(self) -> int:
        """The error for a resource that is not there; it was a code of MCP's own once."""
        return INVALID_PARAMS if self.modern else RESOURCE_NOT_FOUND

    @property
    def resource_links(self) -> bool:
        """Whether content may hold `resource_link` blocks."""
        return self.name >= "2025-06-18"

    @property
    def progress_messages(self) -> bool:
        """Whether a progress notification may carry words."""
        return self.name >= "2025-03-26"


class Cache(msgspec.Struct, frozen=True):
    """How long a client may keep a result, and whether it may show it to other users ("public") or not ("private")."""

    ttl_ms: int
    scope: str = "public"


LIST_CACHE = Cache(300_000)
"""For lists that stay as they are while the server runs."""


def meta_of(params: Json) -> Json:
    """The request's `_meta`, empty where it has none or something that is not an object."""
    meta = params.get("_meta")
    return meta if isinstance(meta, dict) else {}


def progress_token_of(meta: Json) -> Any:
    """The caller's token, which may be 0 or empty; anything but a string or a number is no token."""
    token = meta.get("progressToken")
    return token if isinstance(token, str | int | float) and not isinstance(token, bool) else None


def log_level_of(meta: Json) -> str | None:
    """The level from which on a modern request wants log messages; None where it wants none."""
    level = meta.get(META_LOG_LEVEL)
    return level if level in LOG_LEVELS else None


def revision_of(params: Json, settled: str) -> Revision:
    """The revision that a request speaks; `settled` is what `initialize` agreed on.

    Raises: `ProtocolError` for half an envelope or a version that is not served.
    """
    meta = meta_of(params)
    if META_VERSION not in meta:
        if META_CAPABILITIES in meta:
            raise missing_envelope()
        return Revision(settled)
    version = meta[META_VERSION]
    if version not in MODERN:
        data = {"supported": list(SUPPORTED), "requested": version}
        raise ProtocolError(UNSUPPORTED_VERSION, "Unsupported protocol version", data)
    if not isinstance(meta.get(META_CAPABILITIES), dict):
        raise ProtocolError(INVALID_PARAMS, f"Invalid params: _meta lacks {META_CAPABILITIES}")
    return Revision(version)


def missing_envelope() -> ProtocolError:
    """The error for a request of the modern era without its envelope."""
    return ProtocolError(INVALID_PARAMS, f"Invalid params: _meta lacks {META_VERSION}")


def settle(requested: Any) -> str:
    """The legacy revision that `initialize` agrees on: the client's where it is known, else the newest."""
    return requested if requested in LEGACY else LEGACY[0]


def capabilities(revision: Revision, *, with_catalogues: bool) -> Json:
    """What the server can do: tools and log messages, and with catalogues resources, prompts and completion.

    A legacy client would get changes of a list unasked, which some hosts take for the answer to their last request; a
    modern one gets them in a stream that it opened for them.
    """
    declared: Json = {"tools": {"listChanged": False}, "logging": {}}
    if with_catalogues:
        declared["resources"] = {"subscribe": True, "listChanged": revision.modern}
        declared["prompts"] = {"listChanged": False}
        declared["completions"] = {}
    return declared


def finished(result: Json, revision: Revision, server_info: Json, cache: Cache | None = None) -> Json:
    """Adds what the modern era requires in every result; a legacy result stays as it is.

    `cache` is given for results that clients may keep: discovery, lists and contents.
    """
    if not revision.modern:
        return result
    caching: Json = {} if cache is None else {"ttlMs": cache.ttl_ms, "cacheScope": cache.scope}
    meta = {**result.get("_meta", {}), META_SERVER_INFO: server_info}
    return {"resultType": "complete", **result, **caching, "_meta": meta}
