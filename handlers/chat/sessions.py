"""Sessions: listing them, reading the messages of one, and deleting it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from engine.errors import UnknownSession
from handlers.chat.tool_calls import openai_calls
from handlers.pages import page_of

if TYPE_CHECKING:
    from engine.interface import Message
    from engine.sessions.session import Session, SessionRow
    from handlers.services import Services
    from mcp_protocol.calls.call import Call

PAGE_MESSAGES = 50
PAGE_SESSIONS = 100

KnownSession = Annotated[str, Meta(max_length=256, description="The session_id given to chat_completion.")]


class ListSessionsArguments(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Arguments of `list_sessions`."""

    offset: Annotated[int, Meta(ge=0, description="Number of sessions to skip.")] = 0
    limit: Annotated[int, Meta(ge=1, le=1000, description="Maximum number of sessions to return.")] = PAGE_SESSIONS


class SessionArguments(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Arguments of `delete_session`."""

    session_id: KnownSession


class GetSessionArguments(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Arguments of `get_session`."""

    session_id: KnownSession
    offset: Annotated[int, Meta(ge=0, description="Number of messages to skip.")] = 0
    limit: Annotated[int, Meta(ge=1, le=1000, description="Maximum number of messages to return.")] = PAGE_MESSAGES


class SessionSummary(msgspec.Struct, frozen=True):
    """One session in a list; times are seconds since 1970. `image_bytes` counts decoded audio and videos too,
    `model` is the one that wrote the last reply, where that is known.
    """

    session_id: str
    messages: int
    images: int
    image_bytes: int
    created_s: float
    updated_s: float
    model: str | None


class SessionList(msgspec.Struct, frozen=True):
    """Result of `list_sessions`, oldest created first.

    `next_offset` is the offset of the next page, null after the last one; `store_problem` says what is wrong with the
    session file.
    """

    sessions: list[SessionSummary]
    offset: int
    next_offset: int | None
    active_sessions: int
    max_sessions: int
    store_problem: str | None


class SessionMessage(msgspec.Struct, frozen=True):
    """One message of a session: its text, its numbers of images, audio parts and videos, and its tool calls in OpenAI's
    format. `model` is the one that wrote a reply, where that is known.

    `omitted_characters` counts what is cut off the end of a text that is too long for a result.
    """

    role: str
    text: str
    images: int
    tool_calls: list[dict[str, Any]] | None
    tool_call_id: str | None
    omitted_characters: int
    audio: int
    videos: int
    model: str | None


class SessionContent(msgspec.Struct, frozen=True):
    """Result of `get_session`; `next_offset` is the offset of the next page, null after the last one."""

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
    """All sessions, one page at a time; a page ends early if the result would become too large."""
    rows, settings = services.sessions.list(), services.settings
    models = services.sessions.models()

    def summary(row: SessionRow) -> SessionSummary:
        return _summary(row, models.get(row.id))

    page, next_offset = page_of(rows, arguments.offset, arguments.limit, summary, settings.server.max_result_bytes)
    return SessionList(
        sessions=page,
        offset=arguments.offset,
        next_offset=next_offset,
        active_sessions=len(rows),
        max_sessions=settings.sessions.max_sessions,
        store_problem=services.sessions.problem(),
    )


def get_session(arguments: GetSessionArguments, call: Call, services: Services) -> SessionContent:
    """The messages of one session, one page at a time; a page ends early if the result would become too large."""
    session = services.sessions.get(arguments.session_id)
    max_bytes = services.settings.server.max_result_bytes
    page, next_offset = page_of(session.messages, arguments.offset, arguments.limit, _entry, max_bytes, _shortened)
    return _content(session, page, arguments.offset, next_offset)


def whole_session(session_id: str, services: Services) -> SessionContent:
    """All messages of one session; raises `UnknownSession`."""
    session = services.sessions.get(session_id)
    return _content(session, [_entry(message) for message in session.messages])


def _content(
    session: Session, messages: list[SessionMessage], offset: int = 0, next_offset: int | None = None
) -> SessionContent:
    return SessionContent(
        session_id=session.id,
        messages=messages,
        offset=offset,
        next_offset=next_offset,
        total_messages=session.n_messages,
        created_s=session.created,
        updated_s=session.updated,
    )


def delete_session(arguments: SessionArguments, call: Call, services: Services) -> SessionDeleted:
    """Deletes one session."""
    if not services.sessions.delete(arguments.session_id):
        raise UnknownSession(arguments.session_id)
    services.publish_sessions()
    return SessionDeleted(arguments.session_id, deleted=True)


def _entry(message: Message) -> SessionMessage:
    kinds = [part.kind for part in message.media]
    return SessionMessage(
        role=message.role,
        text=message.text,
        images=kinds.count("image"),
        tool_calls=openai_calls(message.tool_calls),
        tool_call_id=message.tool_call_id,
        omitted_characters=0,
        audio=kinds.count("audio"),
        videos=kinds.count("video"),
        model=message.model,
    )


def _shortened(message: SessionMessage) -> SessionMessage | None:
    """The message with half of its text, `None` if it has no text left."""
    kept = len(message.text) // 2
    omitted = message.omitted_characters + len(message.text) - kept
    return msgspec.structs.replace(message, text=message.text[:kept], omitted_characters=omitted) if kept else None


def _summary(row: SessionRow, model: str | None) -> SessionSummary:
    return SessionSummary(
        session_id=row.id,
        messages=row.n_messages,
        images=row.n_images,
        image_bytes=row.image_bytes,
        created_s=row.created,
        updated_s=row.updated,
        model=model,
    )
