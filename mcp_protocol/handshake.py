"""What the server says of itself: the responses to `initialize` and `server/discover`, and the level of the log."""

from __future__ import annotations

from mcp_protocol import jsonrpc, versions
from mcp_protocol.connection import RequestContext
from mcp_protocol.jsonrpc import Json, ProtocolError, Request
from mcp_protocol.server_info import ServerInfo
from mcp_protocol.versions import Cache, Revision, finished

DISCOVERY_CACHE = Cache(3_600_000)


class Handshake:
    """Handles these methods.

    Arguments:
        info: name, version and instructions of the server.
        with_resources, with_apps, with_tasks: what it has; see `versions.capabilities`.
    """

    def __init__(self, info: ServerInfo, *, with_resources: bool, with_apps: bool, with_tasks: bool) -> None:
        self._info = info
        self._with_resources = with_resources
        self._with_apps = with_resources and with_apps
        self._with_tasks = with_tasks

    def initialize(self, request: Request, context: RequestContext) -> Json:
        """Settles a legacy revision with a client."""
        connection = context.connection
        connection.settled_version = versions.settle(request.params.get("protocolVersion"))
        connection.initialized = True
        connection.accepted = set()
        declared = request.params.get("capabilities")
        revision = Revision(connection.settled_version)
        connection.has_apps = versions.declares_apps(declared)
        connection.can_ask = revision.forms and versions.declares_forms(declared)
        return {
            "protocolVersion": connection.settled_version,
            "capabilities": self._capabilities(revision),
            "serverInfo": self._info.with_icons() if revision.icons else self._info.as_json(),
            "instructions": self._info.instructions,
        }

    def discover(self, request: Request, context: RequestContext) -> Json:
        """The description for modern clients."""
        result: Json = {
            "supportedVersions": list(versions.SUPPORTED),
            "capabilities": self._capabilities(context.revision),
            "instructions": self._info.instructions,
        }
        return finished(result, context.revision, self._info.with_icons(), DISCOVERY_CACHE)

    def set_log_level(self, request: Request, context: RequestContext) -> Json:
        """Sets the lowest level of the log messages that a legacy client gets."""
        level = request.params.get("level")
        if level not in versions.LOG_LEVELS:
            text = f"Invalid params: level must be one of {', '.join(versions.LOG_LEVELS)}"
            raise ProtocolError(jsonrpc.INVALID_PARAMS, text)
        context.connection.log_level = level
        return {}

    def _capabilities(self, revision: Revision) -> Json:
        return versions.capabilities(
            revision, with_resources=self._with_resources, with_apps=self._with_apps, with_tasks=self._with_tasks
        )
