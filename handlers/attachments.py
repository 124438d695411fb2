"""What goes with a prompt: pictures, text files, sound and film, each read by the rules of media."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import msgspec

from engine.errors import GenerationCancelled
from engine.interface import ImagePart
from engine.offers import MediaPart
from handlers.held_images import images_of
from handlers.pictures import is_fetched, limits_of, pictures_of
from media.errors import MediaError
from media.paths import path_of_file_url
from media.recognition import FileFacts, recognised

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.call import Call

T = TypeVar("T")

PATCH = 28
"""Pixels of a side that one token of a picture stands for in Qwen-VL; others are of that order."""
MOST_IMAGE_TOKENS = 16_384
AUDIO_TOKENS_PER_S = 25
VIDEO_TOKENS_PER_S = 500
"""Two frames a second of a few hundred tokens."""


class Attachment(msgspec.Struct, frozen=True):
    """One of the things that go with a prompt, as results tell of it; null where it does not apply.

    `estimated_tokens` is an estimate: what counts is the model's own tokenizer and image processor.
    """

    source: str
    kind: str
    n_bytes: int | None = None
    width: int | None = None
    height: int | None = None
    duration_s: float | None = None
    characters: int | None = None
    estimated_tokens: int | None = None


@dataclass(slots=True)
class Attachments:
    """All that was read, and why the rest was not."""

    pictures: list[ImagePart] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    """Name and content of each text file."""
    media: list[MediaPart] = field(default_factory=list)
    listed: list[Attachment] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def kinds(self) -> list[str]:
        """Modalities beside text, each once."""
        return list(dict.fromkeys(each.kind for each in self.listed if each.kind != "text"))

    def prompt(self, prompt: str) -> str:
        """The prompt with the text files behind it, each between lines with its name."""
        files = [
            f"[File {number}: {name}]\n{text}\n[End of file {number}]"
            for number, (name, text) in enumerate(self.texts, start=1)
        ]
        return "\n\n".join([prompt, *files])


def read_attachments(
    image_urls: Sequence[str], file_paths: Sequence[str], call: Call, services: Services
) -> Attachments:
    """Reads everything, pictures side by side.

    Raises: `GenerationCancelled`.
    """
    found = Attachments()
    sources: list[tuple[str, str, int | None]] = [(f"image_urls[{i}]", url, None) for i, url in enumerate(image_urls)]
    others: list[tuple[str, str, FileFacts]] = []
    for i, path in enumerate(file_paths):
        source = f"file_paths[{i}]"
        facts = _read(found, source, lambda path=path: _recognised(path, call, services))  # type: ignore[misc]
        if facts is None:
            continue
        if facts[1].kind == "image":
            sources.append((source, facts[0], facts[1].n_bytes))
        else:
            others.append((source, *facts))
    _read_pictures(found, sources, call, services)
    for source, path, facts_of_file in others:
        if call.cancelled():
            raise GenerationCancelled
        _read_other(found, source, path, facts_of_file, call, services)
    found.listed.sort(key=lambda each: (each.source.startswith("file"), len(each.source), each.source))
    return found


def text_tokens(text: str) -> int:
    """About how many tokens a text has: four letters each in Latin scripts, one character each in others."""
    n_ascii = sum(character < "\u0080" for character in text)
    return math.ceil(n_ascii / 4) + len(text) - n_ascii


def _recognised(path: str, call: Call, services: Services) -> tuple[str, FileFacts]:
    if is_fetched(path) or path[:5].casefold() == "data:":
        raise MediaError("Only files on this machine are given here; image_urls takes URLs of pictures.")
    if path[:5].casefold() == "file:":
        path = path_of_file_url(path)
    media = services.settings.media
    return path, recognised(path, media.allowed_dirs, media.max_video_bytes, services.decoder, limits_of(call))


def _read_pictures(
    found: Attachments, sources: list[tuple[str, str, int | None]], call: Call, services: Services
) -> None:
    if not sources:
        return
    with pictures_of([reference for _, reference, _ in sources], images_of(call, services), call) as pictures:
        for (source, _, n_bytes), picture in zip(sources, pictures, strict=True):
            if isinstance(picture, str):
                found.problems.append(f"{source}: {picture}")
                continue
            width, height = picture.image.size
            found.pictures.append(picture)
            tokens = min(MOST_IMAGE_TOKENS, math.ceil(width / PATCH) * math.ceil(height / PATCH))
            found.listed.append(
                Attachment(source, "image", n_bytes, width=width, height=height, estimated_tokens=tokens)
            )


def _read_other(found: Attachments, source: str, path: str, facts: FileFacts, call: Call, services: Services) -> None:
    limits = limits_of(call)
    if facts.kind == "audio":
        audio = _read(found, source, lambda: services.audio.read(path, limits))
        if audio is not None:
            found.media.append(MediaPart("audio", audio.wav, "audio/wav"))
            tokens = math.ceil(audio.duration_s * AUDIO_TOKENS_PER_S)
            seconds = round(audio.duration_s, 3)
            found.listed.append(Attachment(source, "audio", facts.n_bytes, duration_s=seconds, estimated_tokens=tokens))
    elif facts.kind == "video":
        film = _read(found, source, lambda: services.videos.read_file(path, limits))
        if film is not None:
            clip, data, mime_type = film
            found.media.append(MediaPart("video", data, mime_type))
            found.listed.append(
                Attachment(
                    source,
                    "video",
                    facts.n_bytes,
                    width=clip.width,
                    height=clip.height,
                    duration_s=round(clip.duration_s, 3),
                    estimated_tokens=math.ceil(clip.duration_s * VIDEO_TOKENS_PER_S),
                )
            )
    else:
        text = _read(found, source, lambda: services.texts.read(path))
        if text is not None:
            found.texts.append((_shown_name(path), text))
            found.listed.append(
                Attachment(source, "text", facts.n_bytes, characters=len(text), estimated_tokens=text_tokens(text))
            )


def _read(found: Attachments, source: str, read: Callable[[], T]) -> T | None:
    try:
        return read()
    except MediaError as error:
        found.problems.append(f"{source}: {error}")
        return None


def _shown_name(path: str) -> str:
    """A file's name without its folder, on one line."""
    name = "".join(character if character.isprintable() else "?" for character in os.path.basename(path))
    return name if len(name) <= 200 else name[:200] + "…"
