"""Sound and film, decoded; the results are what goes through shared memory.

The libraries are imported here, so that what they take themselves does not count as the memory of a file.
"""

from __future__ import annotations

from dataclasses import asdict

import av  # noqa: F401
import numpy as np  # noqa: F401

from media import audio, muxing, video
from media.containers import Deadline, is_moving, opened
from media.decoding import prepare
from media.kinds import VIDEO
from media.pixels import pixels_of
from sandbox.result import Result

prepare()

Data = bytes | memoryview


def sound(data: Data, max_s: float, timeout_s: float) -> Result:
    """A WAV file, and what else `DecodedAudio` says."""
    decoded = audio.decode_audio(bytes(data), max_s, timeout_s=timeout_s)
    return Result((decoded.duration_s, decoded.sample_rate), decoded.wav)


def clip(data: Data, max_pixels: int, timeout_s: float) -> Result:
    """The pixels of a clip's first frame, and what else `Clip` says."""
    read = video.read_clip(bytes(data), max_pixels, timeout_s)
    facts = (read.width, read.height, read.fps, read.frames, read.duration_s, read.has_audio)
    return Result(facts, pixels_of(read.first_frame))


def checked(data: Data, timeout_s: float) -> dict[str, object]:
    """The fields of `VideoFacts`."""
    return asdict(video.check_video(bytes(data), timeout_s))


def poster(data: Data) -> Result:
    """Size and pixels of a frame."""
    image = video.poster(bytes(data))
    return Result(image.size, pixels_of(image))


def with_sound(data: Data, audio: bytes) -> Result:
    """An MP4."""
    return Result(None, muxing.with_sound(bytes(data), audio))


def moves(data: Data, timeout_s: float) -> bool:
    """Whether there is a stream of video in the file."""
    with opened(bytes(data), VIDEO, Deadline(timeout_s, VIDEO.noun)) as container:
        return any(map(is_moving, container.streams.video))
