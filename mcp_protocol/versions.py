"""MCP's revisions: which one a request uses, and what differs in the response.

This is decided per request. A request whose `_meta` names a protocol version is "modern" (2026-07-28 and later:
stateless, no handshake). Any other is "legacy" and uses the revision that `initialize` negotiated, or 2024-11-05
without `initialize` (users pipe single lines into the server). Fields that a later legacy revision added, such as
`structuredContent`, are sent to older clients too, which ignore them. Content blocks of an unknown type break clients,
so those are not sent.
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
"""The only revision with JSON-RPC batches."""

MODERN_ONLY = ("server/discover", "subscriptions/listen")
"""Methods that no legacy revision has: such a request without an envelope is an error."""

META_VERSION = "io.modelcontextprotocol/protocolVersion"
META_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
META_LOG_LEVEL = "io.modelcontextprotocol/logLevel"
META_SERVER_INFO = "io.modelcontextprotocol/serverInfo"

APPS = "io.modelcontextprotocol/ui"
"""The extension MCP Apps, by which a host shows the view of a tool."""
APPS_MIME_TYPE = "text/html;profile=mcp-app"

TASKS = "io.modelcontextprotocol/tasks"
"""The extension by which clients of modern revisions follow a call as a task."""

UNSUPPORTED_VERSION = -32022
MISSING_CAPABILITY = -32021
RESOURCE_NOT_FOUND = -32002

LOG_LEVELS = ("debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")


class Revision(msgspec.Struct, frozen=True):
    """One revision of MCP and its features."""

    name: str

    @property
    def modern(self) -> bool:
        """Whether requests are stateless, with their envelope in `_meta`."""
        return self.name in MODERN

    @property
    def not_found_code(self) -> int:
        """The error code for an unknown resource."""
        return INVALID_PARAMS if self.modern else RESOURCE_NOT_FOUND

    @property
    def resource_links(self) -> bool:
        """Whether content may hold `resource_link` blocks."""
        return self.name >= "2025-06-18"

    @property
    def forms(self) -> bool:
        """Whether clients may show forms to the user."""
        return self.name >= "2025-06-18"

    @property
    def icons(self) -> bool:
        """Whether the server's description may have icons."""
        return self.name >= "2025-11-25"

    @property
    def tasks(self) -> bool:
        """Whether tasks are a part of the revision itself, and no extension."""
        return self.name == "2025-11-25"

    @property
    def progress_messages(self) -> bool:
        """Whether a progress notification may have a `message`."""
        return self.name >= "2025-03-26"


class Cache(msgspec.Struct, frozen=True):
    """How long a client may cache a result, and whether for all users ("public") or for one ("private")."""

    ttl_ms: int
    scope: str = "public"


LIST_CACHE = Cache(300_000)
"""For lists that do not change while the server runs."""


def meta_of(params: Json) -> Json:
    """The request's `_meta`; empty if it is missing or not an object."""
    meta = params.get("_meta")
    return meta if isinstance(meta, dict) else {}


def progress_token_of(meta: Json) -> Any:
    """The progress token, which may be 0 or empty; None if it is neither a string nor a number."""
    token = meta.get("progressToken")
    return token if isinstance(token, str | int | float) and not isinstance(token, bool) else None


def log_level_of(meta: Json) -> str | None:
    """The lowest log level that a modern request wants; None for no log messages."""
    level = meta.get(META_LOG_LEVEL)
    return level if level in LOG_LEVELS else None


def revision_of(params: Json, settled: str) -> Revision:
    """The revision of a request; `settled` is the one that `initialize` negotiated.

    Raises: `ProtocolError` for an incomplete envelope or an unsupported version.
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
    """The error for a modern request without an envelope."""
    return ProtocolError(INVALID_PARAMS, f"Invalid params: _meta lacks {META_VERSION}")


def settle(requested: Any) -> str:
    """The legacy revision that `initialize` negotiates: the client's if supported, else the newest."""
    return requested if requested in LEGACY else LEGACY[0]


def declares_apps(client_capabilities: Any) -> bool:
    """Whether a client's capabilities have MCP Apps."""
    extensions = client_capabilities.get("extensions") if isinstance(client_capabilities, dict) else None
    return isinstance(extensions, dict) and isinstance(extensions.get(APPS), dict)


def declares_forms(client_capabilities: Any) -> bool:
    """Whether a client's capabilities have elicitation by forms; an empty object means forms."""
    modes = client_capabilities.get("elicitation") if isinstance(client_capabilities, dict) else None
    return isinstance(modes, dict) and ("form" in modes or "url" not in modes)


def declares(meta: Json, extension: str) -> bool:
    """Whether the `_meta` of a modern request declares an extension."""
    client_capabilities = meta.get(META_CAPABILITIES)
    extensions = client_capabilities.get("extensions") if isinstance(client_capabilities, dict) else None
    return isinstance(extensions, dict) and isinstance(extensions.get(extension), dict)


def wants_task(params: Json, revision: Revision) -> bool:
    """Whether a client asks for a task instead of a tool's result, or in a modern revision allows one."""
    if revision.modern:
        return declares(meta_of(params), TASKS)
    return revision.tasks and params.get("task") is not None


def capabilities(
    revision: Revision, *, with_resources: bool, with_apps: bool = False, with_tasks: bool = False
) -> Json:
    """The server's capabilities; resources, prompts and completion only `with_resources`, MCP Apps only `with_apps`,
    tasks only `with_tasks`.

    A legacy client would get `list_changed` at any time, which some clients take for the response to their last
    request; a modern client gets it in a stream that it has opened for it.
    """
    declared: Json = {"tools": {"listChanged": False}, "logging": {}}
    if with_resources:
        declared["resources"] = {"subscribe": True, "listChanged": revision.modern}
        declared["prompts"] = {"listChanged": False}
        declared["completions"] = {}
    if with_apps:
        declared["extensions"] = {APPS: {"mimeTypes": [APPS_MIME_TYPE]}}
    if with_tasks and revision.modern:
        declared["extensions"] = {**declared.get("extensions", {}), TASKS: {}}
    if with_tasks and revision.tasks:
        declared["tasks"] = {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}
    return declared


def finished(result: Json, revision: Revision, server_info: Json, cache: Cache | None = None) -> Json:
    """Adds the fields that modern revisions require in every result; a legacy result is unchanged.

    `cache` is for results that clients may cache: discovery, lists and contents.
    """
    if not revision.modern:
        return result
    caching: Json = {} if cache is None else {"ttlMs": cache.ttl_ms, "cacheScope": cache.scope}
    meta = {**result.get("_meta", {}), META_SERVER_INFO: server_info}
    return {"resultType": "complete", **result, **caching, "_meta": meta}
