"""One client: what it negotiated with the server, and where messages to it are written.

On stdio the process has one connection and one writer for its whole life. Over HTTP each session is a connection, each
stateless request has a connection of its own, and every request has its own writer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from mcp_protocol import versions
from mcp_protocol.jsonrpc import Json, ProtocolError, Request, encode, error_message
from mcp_protocol.versions import WITHOUT_HANDSHAKE

if TYPE_CHECKING:
    from mcp_protocol.versions import Revision


class MessageWriter:
    """Writes messages to a client; this base class drops them. Any thread may call any method.

    `takes_requests` says whether requests of the server reach the client.

    Raises: `ReaderGone` from every method that writes, when the client has closed stdout.
    """

    takes_requests = True

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
        self.can_ask = False
        """Whether the client shows forms to its user, as its `initialize` says."""
        self.ended = False
        """Whether no more messages come from the client."""
        self.accepted: set[str] = set()
        """What the user has agreed to for this connection, by names that handlers choose."""


class RequestContext(msgspec.Struct, frozen=True):
    """What a request brings along besides its method and parameters.

    Arguments:
        connection: the client that sent it.
        writer: where its response and notifications go.
        revision: the MCP revision it uses.
        progress_token: the token for progress notifications, None where the client wants none.
        log_level: the lowest level of log messages that the client wants, None for no messages.
        has_apps: whether the client declares MCP Apps.
        can_ask: whether the client shows forms to its user.
    """

    connection: Connection
    writer: MessageWriter
    revision: Revision
    progress_token: Any = None
    log_level: str | None = None
    has_apps: bool = False
    can_ask: bool = False


def context_of(
    request: Request, connection: Connection, writer: MessageWriter, *, may_ask: bool = True
) -> RequestContext:
    """The context of a request; with `may_ask` False the user is not asked, whatever the client declares.

    Raises: `ProtocolError` for an incomplete envelope or an unsupported version.
    """
    revision = versions.revision_of(request.params, connection.settled_version)
    meta = versions.meta_of(request.params)
    token = versions.progress_token_of(meta)
    if revision.modern:
        declared = meta[versions.META_CAPABILITIES]
        log_level, has_apps = versions.log_level_of(meta), versions.declares_apps(declared)
        can_ask = versions.declares_forms(declared)
    else:
        if not connection.initialized and request.method in versions.MODERN_ONLY:
            raise versions.missing_envelope()
        log_level, has_apps = connection.log_level, connection.has_apps
        can_ask = connection.can_ask and writer.takes_requests
    return RequestContext(connection, writer, revision, token, log_level, has_apps, may_ask and can_ask)


Method = Callable[[Request, RequestContext], Json | None]
"""Returns the result of a request, or None when the response follows later."""
