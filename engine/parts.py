"""The parts of a message: text, images, audio and videos, decoded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from PIL.Image import Image

AUDIO_RATE = 16_000
"""Hz; the rate of `AudioPart.samples`."""
BYTES_PER_SAMPLE = 4
MIN_AUDIO_S, MAX_AUDIO_S = 0.1, 600
"""Seconds of one audio part: feature extractors fail with less, and vLLM decodes no more by default."""
MAX_FRAME_SIDE = 768
"""Pixels; the frames of videos are reduced to this. 16 frames of 768 × 432 take 16 MB."""


@dataclass(frozen=True, slots=True)
class TextPart:
    """A piece of text inside a message."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """An image inside a message: decoded, upright, RGB.

    `digest` is a SHA-256 over the encoded image and how it was decoded. The engine's caches use it as the image's key,
    so different images never share an entry.
    """

    image: Image
    digest: str
    kind: ClassVar[str] = "image"

    @property
    def n_bytes(self) -> int:
        """Size of the decoded pixels in memory."""
        return self.image.width * self.image.height * len(self.image.getbands())


@dataclass(frozen=True, slots=True)
class AudioPart:
    """Audio inside a message: mono samples at `AUDIO_RATE`, 32-bit floats in little-endian order between -1 and 1.

    `digest` identifies the samples, as that of an image identifies its pixels; no image or video has the same one.
    """

    samples: bytes
    digest: str
    kind: ClassVar[str] = "audio"

    @property
    def duration_s(self) -> float:
        """Seconds."""
        return len(self.samples) / (BYTES_PER_SAMPLE * AUDIO_RATE)

    @property
    def n_bytes(self) -> int:
        """Size of the samples in memory."""
        return len(self.samples)


@dataclass(frozen=True, slots=True)
class VideoPart:
    """A video inside a message: some of its frames, without its sound.

    Arguments:
        frames: upright, RGB, all of one size, in order; at least one.
        times_s: when each of them is shown, in seconds from the start of the video.
        duration_s: of the whole video, in seconds.
        fps: the frames per second of the whole video; `None` where it has a single frame.
        digest: identifies the frames and their times; no image or audio has the same one.
    """

    frames: tuple[Image, ...]
    times_s: tuple[float, ...]
    duration_s: float
    fps: float | None
    digest: str
    kind: ClassVar[str] = "video"

    @property
    def n_bytes(self) -> int:
        """Size of the decoded pixels in memory."""
        return sum(frame.width * frame.height * len(frame.getbands()) for frame in self.frames)


Media = ImagePart | AudioPart | VideoPart
Part = TextPart | Media

NOUNS = {"image": "images", "audio": "audio parts", "video": "videos"}
"""The kinds of media, and the word for several of each."""


def too_many(media: Iterable[Media], max_per_kind: int) -> str | None:
    """How many media of a kind there are if these are more than the maximum of a prompt, e.g. `5 images`."""
    return too_many_of([part.kind for part in media], max_per_kind)


def too_many_of(kinds: Sequence[str], max_per_kind: int) -> str | None:
    """The same for the kinds of media."""
    counts = {kind: kinds.count(kind) for kind in NOUNS}
    return next((f"{count} {NOUNS[kind]}" for kind, count in counts.items() if count > max_per_kind), None)


def media_bytes(media: Iterable[Media]) -> int:
    """The size of decoded media; repeated ones count once."""
    return sum({part.digest: part.n_bytes for part in media}.values())
