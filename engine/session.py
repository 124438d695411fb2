"""One remembered conversation: a system message that stays, and turns that are added and dropped as a whole."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field

from engine.interface import ImagePart, Message, TextPart

KEY_BITS = 62
"""Turns are told apart by a random number, so that two servers that add to one file never choose the same."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Messages up to and including the assistant's answer.

    `key` tells this turn from all others of its session for good; a copy of the session has the same turns.
    """

    messages: tuple[Message, ...]
    key: int = field(default_factory=lambda: 1 + secrets.randbits(KEY_BITS), compare=False)
    images: tuple[ImagePart, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Kept, since planning a turn asks every earlier one for its pictures.
        object.__setattr__(self, "images", images_of(self.messages))


@dataclass(frozen=True, slots=True)
class Session:
    """A remembered conversation: the system messages, which never drop, and the turns, oldest first.

    `created` and `updated` are Unix times in seconds. `version` is for whoever keeps the session: which state of its
    file this is, `None` for one that is in no file.
    """

    id: str
    created: float
    updated: float
    system: tuple[Message, ...] = ()
    turns: tuple[Turn, ...] = ()
    version: tuple[int, int] | None = field(default=None, compare=False)

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages, the system's first."""
        return (*self.system, *itertools.chain.from_iterable(turn.messages for turn in self.turns))

    @property
    def images(self) -> tuple[ImagePart, ...]:
        """All pictures in order; one that appears twice is there twice."""
        return (*images_of(self.system), *itertools.chain.from_iterable(turn.images for turn in self.turns))

    @property
    def n_messages(self) -> int:
        """How many messages there are."""
        return len(self.system) + sum(len(turn.messages) for turn in self.turns)

    @property
    def n_bytes(self) -> int:
        """What the session holds in memory, about: its pictures, each once, and the letters of its texts."""
        letters = sum(
            len(part.text) for message in self.messages for part in message.content if isinstance(part, TextPart)
        )
        return image_bytes(self.images) + letters


@dataclass(frozen=True, slots=True)
class SessionRow:
    """What a list tells of a session; `image_bytes` is what its pictures take when decoded, each time they appear."""

    id: str
    created: float
    updated: float
    n_messages: int
    n_images: int
    image_bytes: int


def row_of(session: Session) -> SessionRow:
    """The session as a list tells of it."""
    images = session.images
    return SessionRow(
        session.id,
        session.created,
        session.updated,
        session.n_messages,
        len(images),
        sum(image.n_bytes for image in images),
    )


def images_of(messages: Iterable[Message]) -> tuple[ImagePart, ...]:
    """The pictures of some messages in order."""
    return tuple(itertools.chain.from_iterable(message.images for message in messages))


def image_bytes(images: Iterable[ImagePart]) -> int:
    """Bytes of decoded pictures; one that appears twice is held once."""
    return sum({image.digest: image.n_bytes for image in images}.values())
