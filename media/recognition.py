"""What a file is: a picture, sound, film, or something else, by its bytes and never by its name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from media.call_limits import NO_LIMITS, CallLimits
from media.containers import format_of
from media.kinds import VIDEO
from media.paths import open_regular_file, read_file

if TYPE_CHECKING:
    from media.decoder import Decoder

HEAD_BYTES = 65_536

_PICTURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*")
_SOUND_ONLY = frozenset({"wav", "aiff", "flac", "mp3", "aac"})


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a file is, and its size; `other` may be text."""

    kind: Literal["image", "audio", "video", "other"]
    n_bytes: int


def recognised(
    path: str,
    allowed_dirs: Sequence[str] | None,
    max_bytes: int,
    decoder: Decoder,
    limits: CallLimits = NO_LIMITS,
) -> FileFacts:
    """Looks at a file's first bytes, and into the containers that hold sound and film alike.

    Arguments: the path and the folders as for `open_regular_file`; how large such a container may be.
    Raises: `MediaNotFound`, `MediaForbidden`, `MediaTooLarge`, `MediaUnreadable`, `MediaCancelled`.
    """
    with open_regular_file(path, allowed_dirs) as file:
        n_bytes = os.fstat(file.fileno()).st_size
        head = file.read(HEAD_BYTES)
    if head.startswith(_PICTURES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return FileFacts("image", n_bytes)
    name = format_of(head)
    if name in _SOUND_ONLY or head[:3] == b"ID3":
        return FileFacts("audio", n_bytes)
    if name is None:
        return FileFacts("other", n_bytes)
    data = read_file(path, allowed_dirs, max_bytes, VIDEO)
    return FileFacts("video" if decoder.moves(data, limits) else "audio", n_bytes)
