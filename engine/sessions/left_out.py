"""Media of earlier turns that the next model does not accept: a note in their place, and what the caller is told.

The session keeps them, for models that accept them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable

from engine.interface import Message, TextPart
from engine.parts import NOUNS, Media, Part

NOTES = {
    "image": "[An image was here; you cannot see images.]",
    "audio": "[Audio was here; you cannot hear audio.]",
    "video": "[A video was here; you cannot watch videos.]",
}


def without_media(message: Message, accepts: Collection[str]) -> Message:
    """The message with a note in place of each medium that is not of these kinds."""
    if all(part.kind in accepts for part in message.media):
        return message
    return dataclasses.replace(message, content=tuple(_shown(part, accepts) for part in message.content))


def remark(media: Iterable[Media], accepts: Collection[str], model: str) -> str | None:
    """The sentence for the caller that says how many media were left out; `None` if none were."""
    kinds = [part.kind for part in media if part.kind not in accepts]
    if not kinds:
        return None
    counts = ", ".join(f"{NOUNS[kind]}: {kinds.count(kind)}" for kind in NOUNS if kind in kinds)
    return f"Media of earlier turns were left out, since the model {model} does not accept them ({counts})."


def _shown(part: Part, accepts: Collection[str]) -> Part:
    return part if isinstance(part, TextPart) or part.kind in accepts else TextPart(NOTES[part.kind])
