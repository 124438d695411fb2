"""Sessions: which conversations are remembered, what was said in one, and forgetting it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from engine.errors import UnknownSession
from handlers.chat import NoArguments

if TYPE_CHECKING:
    from engine.session import SessionRow
    from handlers.services import Services
    from mcp_protocol.call import Call

PAGE_MESSAGES = 50

KnownSession = Annotated[str, Meta(max_length=256, description="The name given to chat_completion as session_id.")]


class SessionArguments(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Arguments of `delete_session`."""

    session_id: KnownSession


class GetSessionArguments(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Arguments of `get_session`."""

    session_id: KnownSession
    offset: Annotated[int, Meta(ge=0, description="Messages to leave out at the beginning.")] = 0
    limit: Annotated[int, Meta(ge=1, le=1000, description="Messages to show.")] = PAGE_MESSAGES


class SessionSummary(msgspec.Struct, frozen=True):
    """One session in a list; times are seconds since 1970."""

    session_id: str
    messages: int
    images: int
    image_bytes: int
    created_s: float
    updated_s: float


class SessionList(msgspec.Struct, frozen=True):
    """Result of `list_sessions`, oldest created first."""

    sessions: list[SessionSummary]
    active_sessions: int
    max_sessions: int


class SessionMessage(msgspec.Struct, frozen=True):
    """One message of a session: its text, and how many pictures it has."""

    role: str
    text: str
    images: int


class SessionContent(msgspec.Struct, frozen=True):
    """Result of `get_session`."""

    session_id: str
    messages: list[SessionMessage]
    offset: int
    total_messages: int
    created_s: float
    updated_s: float


class SessionDeleted(msgspec.Struct, frozen=True):
    """Result of `delete_session`."""

    session_id: str
    deleted: bool


def list_sessions(arguments: NoArguments, call: Call, services: Services) -> SessionList:
    """All sessions in memory."""
    summaries = [_summary(row) for row in services.sessions.list()]
    return SessionList(summaries, len(summaries), services.settings.sessions.max_sessions)


def get_session(arguments: GetSessionArguments, call: Call, services: Services) -> SessionContent:
    """The messages of one session, a page at a time."""
    session = services.sessions.get(arguments.session_id)
    messages = session.messages
    page = messages[arguments.offset : arguments.offset + arguments.limit]
    return SessionContent(
        session_id=session.id,
        messages=[SessionMessage(message.role, message.text, len(message.images)) for message in page],
        offset=arguments.offset,
        total_messages=len(messages),
        created_s=session.created,
        updated_s=session.updated,
    )


def delete_session(arguments: SessionArguments, call: Call, services: Services) -> SessionDeleted:
    """Forgets one session."""
    if not services.sessions.delete(arguments.session_id):
        raise UnknownSession(arguments.session_id)
    return SessionDeleted(arguments.session_id, deleted=True)


def _summary(row: SessionRow) -> SessionSummary:
    return SessionSummary(
        session_id=row.id,
        messages=row.n_messages,
        images=row.n_images,
        image_bytes=row.image_bytes,
        created_s=row.created,
        updated_s=row.updated,
    )
