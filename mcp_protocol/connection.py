"""One client: what it and the server have settled, and where the answers to its messages go.

A process on stdin and stdout has one connection for its whole life and one outlet, the wire. Over HTTP each session is
a connection, and each request that stands alone is one of its own; every request has an outlet of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from mcp_protocol.jsonrpc import Json, ProtocolError, Request, encode, error_message
from mcp_protocol.versions import WITHOUT_HANDSHAKE

if TYPE_CHECKING:
    from mcp_protocol.versions import Revision


class Outlet:
    """Where messages to a client go; this one drops them. Any thread may call any method.

    Raises: `ReaderGone`, from whatever writes, when the process has nobody left to answer.
    """

    def write(self, line: bytes) -> None:
        """Sends one message: a line with its newline."""

    def send(self, message: Json) -> None:
        """Sends one message."""
        self.write(encode(message))

    def answer(self, line: bytes) -> None:
        """Sends the answer to a request; nothing about that request follows."""
        self.write(line)

    def refuse(self, error: ProtocolError) -> None:
        """Answers with an error of the protocol."""
        self.answer(encode(error_message(error)))

    def end(self) -> None:
        """Takes note that a request was cancelled and gets no answer."""


OWNER_SHARE = 2
"""Each of several owners of tokens has at most this part of what all have together, a half."""

NOWHERE = Outlet()


class Connection:
    """What is known of one client; `outlet` takes what is said to it without a request.

    `owner` is the number of its token, 0 where there are none: what is counted for one owner takes nothing from others.
    """

    def __init__(self, outlet: Outlet = NOWHERE, owner: int = 0) -> None:
        self.outlet = outlet
        self.owner = owner
        self.settled_version = WITHOUT_HANDSHAKE
        self.initialized = False
        self.log_level: str | None = None


class Exchange(msgspec.Struct, frozen=True):
    """One request: who asked, where the answer goes, and the revision it speaks."""

    connection: Connection
    outlet: Outlet
    revision: Revision


Method = Callable[[Request, Exchange], Json | None]
"""Answers a request with its result, or returns None when the answer comes later."""
