"""What the main thread reads of the services: the sessions, and the budgets of messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mcp_protocol.connection import OWNER_SHARE

if TYPE_CHECKING:
    from sandbox.budget import ByteBudget
    from settings.server import HttpSettings

MESSAGE_SHARE = 4
"""Queued calls and incomplete HTTP bodies may take one part of this many of the byte budget; the rest is for running
calls."""


class PublishedSession(msgspec.Struct, frozen=True):
    """The part of a session that any thread may read; times are seconds since 1970."""

    id: str
    created_s: float
    updated_s: float


def message_budgets(whole: ByteBudget, http: HttpSettings) -> list[ByteBudget]:
    """The budgets of messages, one for each client token."""
    messages = whole.part(MESSAGE_SHARE)
    n_owners = len(http.tokens) if http.transport != "stdio" else 1
    return [messages] if n_owners <= 1 else [messages.part(OWNER_SHARE) for _ in range(n_owners)]
