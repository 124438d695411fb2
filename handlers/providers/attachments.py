"""Attachments of a prompt: images, text files, audio and video, read by the rules of media."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import msgspec

from engine.errors import GenerationCancelled
from engine.interface import ImagePart, VideoPart
from engine.parts import AudioPart
from engine.remote.media_parts import MediaPart
from handlers.chat.media_reading import CallMedia, MediaSource, call_media
from handlers.image_reading import call_images, call_limits, is_download
from handlers.model.states import accepted
from media.errors import MediaError
from media.file_type import FileType, file_type_of
from media.files.file_urls import path_of_file_url

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.calls.call import Call

T = TypeVar("T")

PATCH = 28
"""Side in pixels of the image patch for one token in Qwen-VL; other models are similar."""
MAX_IMAGE_TOKENS = 16_384
AUDIO_TOKENS_PER_S = 25
VIDEO_TOKENS_PER_S = 500
"""Two frames a second of a few hundred tokens."""


class Attachment(msgspec.Struct, frozen=True):
    """One attachment in a result; null if it does not apply.

    `estimated_tokens` is an estimate: the model's own tokenizer and image processor give the real number.
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
    """The attachments that were read, and the errors of the others."""

    images: list[ImagePart] = field(default_factory=list)
    texts: list[tuple[str, str]] = field(default_factory=list)
    """Name and content of each text file."""
    media: list[MediaPart] = field(default_factory=list)
    """Audio and videos for a provider."""
    parts: list[AudioPart | VideoPart] = field(default_factory=list)
    """Audio and videos for the engine of this server."""
    listed: list[Attachment] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def kinds(self) -> list[str]:
        """The modalities other than text, each once."""
        return list(dict.fromkeys(each.kind for each in self.listed if each.kind != "text"))

    def prompt(self, prompt: str) -> str:
        """The prompt followed by the text files, each between lines with its name."""
        files = [
            f"[File {number}: {name}]\n{text}\n[End of file {number}]"
            for number, (name, text) in enumerate(self.texts, start=1)
        ]
        return "\n\n".join([prompt, *files])


def read_attachments(
    image_urls: Sequence[str], file_paths: Sequence[str], call: Call, services: Services, *, local: str | None = None
) -> Attachments:
    """Reads all attachments, images in parallel; raises `GenerationCancelled`.

    Arguments: `local`, the model of this server that gets them, as far as it takes them; `None` for another server's.
    """
    attachments = Attachments()
    media = None if local is None else call_media(call, services, local)
    taken = () if local is None else accepted(services.models.engine(local).status()) or ()
    sources: list[tuple[str, str, int | None]] = [(f"image_urls[{i}]", url, None) for i, url in enumerate(image_urls)]
    others: list[tuple[str, str, FileType]] = []
    for i, path in enumerate(file_paths):
        source = f"file_paths[{i}]"
        facts = _read(attachments, source, lambda path=path: _file_facts(path, call, services))  # type: ignore[misc]
        if facts is None:
            continue
        if facts[1].kind == "image":
            sources.append((source, facts[0], facts[1].n_bytes))
        else:
            others.append((source, *facts))
    _read_images(attachments, sources, call, services)
    for source, path, facts_of_file in others:
        if call.cancellation.is_set():
            raise GenerationCancelled
        if media is not None and facts_of_file.kind in taken:
            _read_part(attachments, source, path, facts_of_file, media)
        else:
            _read_other(attachments, source, path, facts_of_file, call, services)
    attachments.listed.sort(key=lambda each: (each.source.startswith("file"), len(each.source), each.source))
    return attachments


def text_tokens(text: str) -> int:
    """The estimated tokens of a text: one per four characters of ASCII, one per other character."""
    n_ascii = sum(character < "\u0080" for character in text)
    return math.ceil(n_ascii / 4) + len(text) - n_ascii


def _file_facts(path: str, call: Call, services: Services) -> tuple[str, FileType]:
    if is_download(path) or path[:5].casefold() == "data:":
        raise MediaError("Only paths of files on this machine are allowed here; image URLs go into image_urls.")
    if path[:5].casefold() == "file:":
        path = path_of_file_url(path)
    media = services.settings.media
    return path, file_type_of(path, media.allowed_dirs, media.max_media_bytes, services.decoder, call_limits(call))


def _read_images(
    attachments: Attachments, sources: list[tuple[str, str, int | None]], call: Call, services: Services
) -> None:
    if not sources:
        return
    with call_images(call, services).parallel_parts([reference for _, reference, _ in sources]) as images:
        for (source, _, n_bytes), image in zip(sources, images, strict=True):
            if isinstance(image, str):
                attachments.errors.append(f"{source}: {image}")
                continue
            width, height = image.image.size
            attachments.images.append(image)
            tokens = min(MAX_IMAGE_TOKENS, math.ceil(width / PATCH) * math.ceil(height / PATCH))
            attachments.listed.append(
                Attachment(source, "image", n_bytes, width=width, height=height, estimated_tokens=tokens)
            )


def _read_part(attachments: Attachments, source: str, path: str, facts: FileType, media: CallMedia) -> None:
    """Audio or a video, as it is in a message for the engine of this server."""
    part = media.part(MediaSource("video" if facts.kind == "video" else "audio", path))
    if isinstance(part, str):
        attachments.errors.append(f"{source}: {part}")
    elif isinstance(part, AudioPart | VideoPart):
        attachments.parts.append(part)
        per_s = AUDIO_TOKENS_PER_S if isinstance(part, AudioPart) else 0
        seconds = round(part.duration_s, 3)
        tokens = math.ceil(seconds * per_s) or len(getattr(part, "frames", ())) * VIDEO_TOKENS_PER_S // 2
        attachments.listed.append(
            Attachment(source, part.kind, facts.n_bytes, duration_s=seconds, estimated_tokens=tokens)
        )


def _read_other(
    attachments: Attachments, source: str, path: str, facts: FileType, call: Call, services: Services
) -> None:
    limits = call_limits(call)
    if facts.kind == "audio":
        audio = _read(attachments, source, lambda: services.audio.read(path, limits))
        if audio is not None:
            attachments.media.append(MediaPart("audio", audio.wav, "audio/wav"))
            tokens = math.ceil(audio.duration_s * AUDIO_TOKENS_PER_S)
            seconds = round(audio.duration_s, 3)
            attachments.listed.append(
                Attachment(source, "audio", facts.n_bytes, duration_s=seconds, estimated_tokens=tokens)
            )
    elif facts.kind == "video":
        video = _read(attachments, source, lambda: services.videos.read_file(path, limits))
        if video is not None:
            clip, data, mime_type = video
            attachments.media.append(MediaPart("video", data, mime_type))
            attachments.listed.append(
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
        text = _read(attachments, source, lambda: services.texts.read(path))
        if text is not None:
            attachments.texts.append((_printable_name(path), text))
            attachments.listed.append(
                Attachment(source, "text", facts.n_bytes, characters=len(text), estimated_tokens=text_tokens(text))
            )


def _read(attachments: Attachments, source: str, read: Callable[[], T]) -> T | None:
    try:
        return read()
    except MediaError as error:
        attachments.errors.append(f"{source}: {error}")
        return None


def _printable_name(path: str) -> str:
    """A file's name without its folder, in one line."""
    name = "".join(character if character.isprintable() else "?" for character in os.path.basename(path))
    return name if len(name) <= 200 else name[:200] + "…"
