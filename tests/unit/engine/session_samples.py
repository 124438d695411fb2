"""Messages, pictures and turns for tests of sessions."""

from __future__ import annotations

import hashlib

from PIL import Image

from engine.interface import ImagePart, Message, TextPart
from engine.session_storage import SessionStorage
from engine.sessions import SessionStore
from settings import SessionSettings

MAX_IMAGES = 4
OPENED: list[SessionStore] = []
"""The stores over files that a test has made; `conftest.py` closes them after it."""


def picture(shade: int, side: int = 2) -> ImagePart:
    """A grey picture; equal arguments give equal digests."""
    image = Image.new("RGB", (side, side), (shade, shade, shade))
    return ImagePart(image, hashlib.sha256(f"{side}".encode() + image.tobytes()).hexdigest())


def message(role: str, *content: str | ImagePart) -> Message:
    """A message of texts and pictures."""
    return Message(role, tuple(TextPart(part) if isinstance(part, str) else part for part in content))


def say(store: SessionStore, session_id: str, *content: str | ImagePart, max_images: int = MAX_IMAGES) -> int:
    """One turn, answered with "ok"; returns how many messages were dropped for it."""
    plan = store.plan(session_id, [message("user", *content)], max_images)
    return store.commit(plan, message("assistant", "ok")).truncated_messages


def texts(messages: tuple[Message, ...]) -> list[str]:
    """What the messages say."""
    return [message.text for message in messages]


def stored(path: str, max_sessions: int = 100, max_messages: int = 50, loaded_bytes: int = 1 << 20) -> SessionStore:
    """The sessions of a server that has just started on a file."""
    settings = SessionSettings(max_sessions=max_sessions, max_session_messages=max_messages)
    OPENED.append(SessionStore(settings, keeper=SessionStorage(path, max_sessions, loaded_bytes)))
    return OPENED[-1]
