"""Sessions: which conversations are remembered, what was said in one, and forgetting it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from engine.errors import UnknownSession
from handlers.functions import shown_calls
from handlers.pages import page_of

if TYPE_CHECKING:
    from engine.interface import Message
    from engine.session import Session, SessionRow
    from handlers.services import Services
    from mcp_protocol.call import Call

PAGE_MESSAGES = 50
PAGE_SESSIONS = 100

KnownSession = Annotated[str, Meta(max_length=256, description="The name given to chat_completion as session_id.")]


class ListSessionsArguments(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Arguments of `list_sessions`."""

    offset: Annotated[int, Meta(ge=0, description="Sessions to leave out at the beginning.")] = 0
    limit: Annotated[int, Meta(ge=1, le=1000, description="Sessions to show at most.")] = PAGE_SESSIONS


class SessionArguments(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Arguments of `delete_session`."""

    session_id: KnownSession


class GetSessionArguments(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Arguments of `get_session`."""

    session_id: KnownSession
    offset: Annotated[int, Meta(ge=0, description="Messages to leave out at the beginning.")] = 0
    limit: Annotated[int, Meta(ge=1, le=1000, description="Messages to show at most.")] = PAGE_MESSAGES


class SessionSummary(msgspec.Struct, frozen=True):
    """One session in a list; times are seconds since 1970."""

    session_id: str
    messages: int
    images: int
    image_bytes: int
    created_s: float
    updated_s: float


class SessionList(msgspec.Struct, frozen=True):
    """Result of `list_sessions`, oldest created first.

    `next_offset` begins the next page, null after the last one; `store_problem` says what is wrong with the file.
    """

    sessions: list[SessionSummary]
    offset: int
    next_offset: int | None
    active_sessions: int
    max_sessions: int
    store_problem: str | None


class SessionMessage(msgspec.Struct, frozen=True):
    """One message of a session: its text, how many pictures it has, and the calls of functions in OpenAI's form.

    `omitted_characters` counts what is left out of the end of a text that alone is too long for a result.
    """

    role: str
    text: str
    images: int
    tool_calls: list[dict[str, Any]] | None
    tool_call_id: str | None
    omitted_characters: int


class SessionContent(msgspec.Struct, frozen=True):
    """Result of `get_session`; `next_offset` begins the next page, null after the last one."""

    session_id: str
    messages: list[SessionMessage]
    offset: int
    next_offset: int | None
    total_messages: int
    created_s: float
    updated_s: float


class SessionDeleted(msgspec.Struct, frozen=True):
    """Result of `delete_session`."""

    session_id: str
    deleted: bool


def list_sessions(arguments: ListSessionsArguments, call: Call, services: Services) -> SessionList:
    """All sessions, a page at a time; a page ends early where a result could not hold more."""
    rows, settings = services.sessions.list(), services.settings
    page, next_offset = page_of(rows, arguments.offset, arguments.limit, _summary, settings.server.max_result_bytes)
    return SessionList(
        sessions=page,
        offset=arguments.offset,
        next_offset=next_offset,
        active_sessions=len(rows),
        max_sessions=settings.sessions.max_sessions,
        store_problem=services.sessions.problem(),
    )


def get_session(arguments: GetSessionArguments, call: Call, services: Services) -> SessionContent:
    """The messages of one session, a page at a time; a page ends early where a result could not hold more."""
    session = services.sessions.get(arguments.session_id)
    max_bytes = services.settings.server.max_result_bytes
    page, next_offset = page_of(session.messages, arguments.offset, arguments.limit, _shown, max_bytes, _shortened)
    return _content(session, page, arguments.offset, next_offset)


def whole_session(session_id: str, services: Services) -> SessionContent:
    """All messages of one session.

    Raises: `UnknownSession`.
    """
    session = services.sessions.get(session_id)
    return _content(session, [_shown(message) for message in session.messages])


def _content(
    session: Session, shown: list[SessionMessage], offset: int = 0, next_offset: int | None = None
) -> SessionContent:
    return SessionContent(
        session_id=session.id,
        messages=shown,
        offset=offset,
        next_offset=next_offset,
        total_messages=session.n_messages,
        created_s=session.created,
        updated_s=session.updated,
    )


def delete_session(arguments: SessionArguments, call: Call, services: Services) -> SessionDeleted:
    """Forgets one session."""
    if not services.sessions.delete(arguments.session_id):
        raise UnknownSession(arguments.session_id)
    services.publish_sessions()
    return SessionDeleted(arguments.session_id, deleted=True)


def _shown(message: Message) -> SessionMessage:
    return SessionMessage(
        message.role, message.text, len(message.images), shown_calls(message.tool_calls), message.tool_call_id, 0
    )


def _shortened(message: SessionMessage) -> SessionMessage | None:
    """The message with half of its text, `None` when there is none left to take away."""
    kept = len(message.text) // 2
    omitted = message.omitted_characters + len(message.text) - kept
    return msgspec.structs.replace(message, text=message.text[:kept], omitted_characters=omitted) if kept else None


def _summary(row: SessionRow) -> SessionSummary:
    return SessionSummary(
        session_id=row.id,
        messages=row.n_messages,
        images=row.n_images,
        image_bytes=row.image_bytes,
        created_s=row.created,
        updated_s=row.updated,
    )
