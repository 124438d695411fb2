"""Detects from a file's content, never from its name, whether it is an image, audio, video or something else."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from media.call_limits import NO_LIMITS, CallLimits
from media.decoding.containers import format_of
from media.files.paths import open_regular_file, read_file
from media.kinds import VIDEO

if TYPE_CHECKING:
    from media.decoder import Decoder

HEAD_BYTES = 65_536

_IMAGES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*")
_AUDIO_ONLY = frozenset({"wav", "aiff", "flac", "mp3", "aac"})


@dataclass(frozen=True, slots=True)
class FileType:
    """A file's media type and size; `other` may be text."""

    kind: Literal["image", "audio", "video", "other"]
    n_bytes: int


def file_type_of(
    path: str, allowed_dirs: Sequence[str] | None, max_bytes: int, decoder: Decoder, limits: CallLimits = NO_LIMITS
) -> FileType:
    """Detects the type from the first bytes; containers that may hold audio or video are opened.

    Arguments:
        path: as for `open_regular_file`.
        allowed_dirs: as for `open_regular_file`.
        max_bytes: of a container that is opened.

    Raises: `MediaNotFound`, `MediaForbidden`, `MediaTooLarge`, `MediaUnreadable`, `MediaCancelled`.
    """
    with open_regular_file(path, allowed_dirs) as file:
        n_bytes = os.fstat(file.fileno()).st_size
        head = file.read(HEAD_BYTES)
    if head.startswith(_IMAGES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return FileType("image", n_bytes)
    name = format_of(head)
    if name in _AUDIO_ONLY or head[:3] == b"ID3":
        return FileType("audio", n_bytes)
    if name is None:
        return FileType("other", n_bytes)
    data = read_file(path, allowed_dirs, max_bytes, VIDEO)
    return FileType("video" if decoder.has_video(data, limits) else "audio", n_bytes)
