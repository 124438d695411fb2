"""The server's name, icons and instructions, for `initialize` and `server/discover`."""

from __future__ import annotations

import msgspec

from mcp_protocol.jsonrpc import Json


class ServerInfo(msgspec.Struct, frozen=True):
    """Name, version, instructions and icons of the server; an icon is MCP's `Icon`."""

    name: str
    title: str
    version: str
    description: str
    instructions: str
    icons: list[Json] = []

    def as_json(self) -> Json:
        """MCP's `serverInfo`, for all results and all revisions."""
        return {"name": self.name, "title": self.title, "version": self.version, "description": self.description}

    def with_icons(self) -> Json:
        """The same for a client's first request in a revision that has icons."""
        return {**self.as_json(), "icons": self.icons} if self.icons else self.as_json()
