"""Who the server says it is, in `initialize` and `server/discover` alike."""

from __future__ import annotations

import msgspec

from mcp_protocol.jsonrpc import Json


class ServerInfo(msgspec.Struct, frozen=True):
    """How the server introduces itself."""

    name: str
    title: str
    version: str
    description: str
    instructions: str

    def as_json(self) -> Json:
        """The `serverInfo` of MCP."""
        return {"name": self.name, "title": self.title, "version": self.version, "description": self.description}
