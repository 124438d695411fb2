"""One session: system messages, and turns that are added and dropped as a whole."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

from engine.interface import ImagePart, Message, TextPart
from engine.parts import Media, media_bytes

KEY_BITS = 62
"""Turn keys are random, so that two servers that add to one file do not choose the same key."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A user's messages and the assistant's reply.

    `key` identifies the turn within its session; a copy of the session has the same keys.
    """

    messages: tuple[Message, ...]
    key: int = field(default_factory=lambda: 1 + secrets.randbits(KEY_BITS), compare=False)
    media: tuple[Media, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Cached: planning a turn needs the media of every earlier turn.
        object.__setattr__(self, "media", media_of(self.messages))

    @property
    def images(self) -> tuple[ImagePart, ...]:
        """The images among the media."""
        return _images(self.media)


@dataclass(frozen=True, slots=True)
class Session:
    """A stored conversation: the system messages, which are never dropped, and the turns, oldest first.

    `created` and `updated` are Unix times in seconds. `version` is the version in the session file, `None` for a
    session that is not in a file.
    """

    id: str
    created: float
    updated: float
    system: tuple[Message, ...] = ()
    turns: tuple[Turn, ...] = ()
    version: tuple[int, int] | None = field(default=None, compare=False)

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages, system messages first."""
        return (*self.system, *itertools.chain.from_iterable(turn.messages for turn in self.turns))

    @property
    def media(self) -> tuple[Media, ...]:
        """All images, audio and videos in order, including repeated ones."""
        return (*media_of(self.system), *itertools.chain.from_iterable(turn.media for turn in self.turns))

    @property
    def images(self) -> tuple[ImagePart, ...]:
        """The images among the media."""
        return _images(self.media)

    @property
    def n_messages(self) -> int:
        """The number of messages."""
        return len(self.system) + sum(len(turn.messages) for turn in self.turns)

    @property
    def n_bytes(self) -> int:
        """The approximate size in memory: each medium once, and the characters of the texts."""
        characters = sum(
            len(part.text) for message in self.messages for part in message.content if isinstance(part, TextPart)
        )
        return media_bytes(self.media) + characters


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session in a list.

    `image_bytes` is the size of its decoded images, audio and videos, including repeated ones.
    """

    id: str
    created: float
    updated: float
    n_messages: int
    n_images: int
    image_bytes: int


def row_of(session: Session) -> SessionRow:
    """The session as a row of a list."""
    media = session.media
    return SessionRow(
        session.id,
        session.created,
        session.updated,
        session.n_messages,
        len(_images(media)),
        sum(part.n_bytes for part in media),
    )


def models_of(sessions: Iterable[Session]) -> dict[str, str]:
    """The model of the last reply of each session, by its id, where that is known."""
    models = {session.id: session.turns[-1].messages[-1].model for session in sessions if session.turns}
    return {session_id: model for session_id, model in models.items() if model is not None}


def media_of(messages: Iterable[Message]) -> tuple[Media, ...]:
    """The images, audio and videos of messages in order."""
    return tuple(itertools.chain.from_iterable(message.media for message in messages))


def _images(media: Iterable[Media]) -> tuple[ImagePart, ...]:
    return tuple(part for part in media if isinstance(part, ImagePart))
