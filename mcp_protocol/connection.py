"""One client: what it negotiated with the server, and where messages to it are written.

On stdio the process has one connection and one writer for its whole life. Over HTTP each session is a connection, each
stateless request has a connection of its own, and every request has its own writer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from mcp_protocol.jsonrpc import Json, ProtocolError, Request, encode, error_message
from mcp_protocol.versions import WITHOUT_HANDSHAKE

if TYPE_CHECKING:
    from mcp_protocol.versions import Revision


class MessageWriter:
    """Writes messages to a client; this base class drops them. Any thread may call any method.

    Raises: `ReaderGone` from every method that writes, when the client has closed stdout.
    """

    def write(self, line: bytes) -> None:
        """Writes one message: a line with its newline."""

    def send(self, message: Json) -> None:
        """Writes one message."""
        self.write(encode(message))

    def respond(self, line: bytes) -> None:
        """Writes the response to a request; no message about that request follows."""
        self.write(line)

    def send_error(self, error: ProtocolError) -> None:
        """Writes an error response."""
        self.respond(encode(error_message(error)))

    def skip_response(self) -> None:
        """Notes that a request was cancelled and gets no response."""


OWNER_SHARE = 2
"""With several tokens, the clients of one token get at most 1/2 of each shared limit."""

NULL_WRITER = MessageWriter()


class Connection:
    """The state of one client.

    Arguments:
        writer: for messages that belong to no request.
        owner: the index of the client's token, 0 where there are no tokens. Quotas are counted per owner.
    """

    def __init__(self, writer: MessageWriter = NULL_WRITER, owner: int = 0) -> None:
        self.writer = writer
        self.owner = owner
        self.settled_version = WITHOUT_HANDSHAKE
        self.initialized = False
        self.log_level: str | None = None
        self.has_apps = False


class RequestContext(msgspec.Struct, frozen=True):
    """What a request brings along besides its method and parameters.

    Arguments:
        connection: the client that sent it.
        writer: where its response and notifications go.
        revision: the MCP revision it uses.
        progress_token: the token for progress notifications, None where the client wants none.
        log_level: the lowest level of log messages that the client wants, None for no messages.
        has_apps: whether the client declares MCP Apps.
    """

    connection: Connection
    writer: MessageWriter
    revision: Revision
    progress_token: Any = None
    log_level: str | None = None
    has_apps: bool = False


Method = Callable[[Request, RequestContext], Json | None]
"""Returns the result of a request, or None when the response follows later."""
