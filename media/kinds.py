"""The kinds of media that are read, with the words and settings that error texts name."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MediaKind:
    """One kind of media.

    Attributes:
        noun: its name, after "the".
        type_noun: the name of its MIME types, after "is not".
        mime_types: the types that a `data:` URL may declare, whole or up to their slash.
        example_type: one of these types.
        accept: the Accept header of a download.
        max_bytes_setting: the setting that limits its size.
        fetch_timeout_s: the limit of a download's time where VLLM_MEDIA_FETCH_TIMEOUT is not set.
    """

    noun: str
    type_noun: str
    mime_types: tuple[str, ...]
    example_type: str
    accept: str
    max_bytes_setting: str
    fetch_timeout_s: float

    @property
    def expected_types(self) -> str:
        """The MIME types as text."""
        return " or ".join(f"{name}…" if name.endswith("/") else name for name in self.mime_types)


IMAGE = MediaKind(
    noun="image",
    type_noun="an image type",
    mime_types=("image/",),
    example_type="image/png",
    accept="image/jpeg, image/png, image/webp, image/gif, */*;q=0.1",
    max_bytes_setting="VLLM_MAX_IMAGE_BYTES",
    fetch_timeout_s=10.0,
)
# The audio track of a video is accepted, and many programs give audio files a video type.
AUDIO = MediaKind(
    noun="audio",
    type_noun="an audio type",
    mime_types=("audio/", "video/", "application/ogg"),
    example_type="audio/wav",
    accept="audio/*, video/*, */*;q=0.1",
    max_bytes_setting="VLLM_MAX_MEDIA_BYTES",
    fetch_timeout_s=60.0,
)
VIDEO = MediaKind(
    noun="video",
    type_noun="a video type",
    mime_types=("video/", "application/ogg", "application/mp4"),
    example_type="video/mp4",
    accept="video/*, */*;q=0.1",
    max_bytes_setting="VLLM_MAX_MEDIA_BYTES",
    fetch_timeout_s=60.0,
)
TEXT = MediaKind(
    noun="text file",
    type_noun="a text type",
    mime_types=("text/",),
    example_type="text/plain",
    accept="text/*",
    max_bytes_setting="the server",
    fetch_timeout_s=10.0,
)
