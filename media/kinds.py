"""The kinds of media that are read, and how messages speak of each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MediaKind:
    """One kind of media: its name, its MIME types, and the settings that bound it.

    `noun` follows "the"; `owner` completes "is not"; `mime_types` are the types that a `data:` URL may declare, whole
    or up to their slash; `example_type` is one of them; `accept` is what a download asks for; the settings are named
    as outside.
    """

    noun: str
    owner: str
    mime_types: tuple[str, ...]
    example_type: str
    accept: str
    max_bytes_setting: str
    timeout_setting: str

    @property
    def expected_types(self) -> str:
        """The MIME types in words."""
        return " or ".join(f"{name}…" if name.endswith("/") else name for name in self.mime_types)


PICTURE = MediaKind(
    noun="picture",
    owner="a picture's",
    mime_types=("image/",),
    example_type="image/png",
    accept="image/jpeg, image/png, image/webp, image/gif, */*;q=0.1",
    max_bytes_setting="VLLM_MAX_IMAGE_BYTES",
    timeout_setting="VLLM_IMAGE_FETCH_TIMEOUT",
)
# The sound of a video is read too, and many programs call a recording without pictures a video.
AUDIO = MediaKind(
    noun="audio",
    owner="that of audio",
    mime_types=("audio/", "video/", "application/ogg"),
    example_type="audio/wav",
    accept="audio/*, video/*, */*;q=0.1",
    max_bytes_setting="VLLM_MAX_AUDIO_BYTES",
    timeout_setting="VLLM_VIDEO_FETCH_TIMEOUT",
)
VIDEO = MediaKind(
    noun="video",
    owner="a video's",
    mime_types=("video/", "application/ogg", "application/mp4"),
    example_type="video/mp4",
    accept="video/*, */*;q=0.1",
    max_bytes_setting="VLLM_MAX_VIDEO_BYTES",
    timeout_setting="VLLM_VIDEO_FETCH_TIMEOUT",
)
TEXT = MediaKind(
    noun="text file",
    owner="a text's",
    mime_types=("text/",),
    example_type="text/plain",
    accept="text/*",
    max_bytes_setting="VLLM_MAX_TEXT_BYTES",
    timeout_setting="VLLM_IMAGE_FETCH_TIMEOUT",
)
