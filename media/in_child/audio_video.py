"""Decodes audio and video; each result is sent to the parent, large ones through shared memory.

The libraries are imported here, so that their own memory does not count as the memory of a file.
"""

from __future__ import annotations

from dataclasses import asdict, fields

import av  # noqa: F401
import numpy as np  # noqa: F401

from media.decoding import audio, frames, muxing, video
from media.decoding.containers import Deadline, is_moving, opened
from media.decoding.images import prepare
from media.decoding.pixels import pixels_of, pixels_of_all
from media.kinds import VIDEO
from sandbox.result import Result

prepare()

Data = bytes | memoryview


def decode_audio(data: Data, max_s: float, sample_rate: int, timeout_s: float) -> Result:
    """A WAV file, and the other fields of `DecodedAudio`."""
    decoded = audio.decode_audio(bytes(data), max_s, sample_rate, timeout_s)
    return Result((decoded.duration_s, decoded.sample_rate), decoded.wav)


def check_audio(data: Data, max_s: float, timeout_s: float) -> dict[str, object]:
    """The fields of `AudioFacts`."""
    return asdict(audio.check_audio(bytes(data), max_s, timeout_s))


def decode_speech(data: Data, max_s: float, timeout_s: float) -> Result:
    """The duration and the samples of `media.decoding.audio.decode_speech`."""
    samples, duration_s = audio.decode_speech(bytes(data), max_s, timeout_s)
    return Result(duration_s, samples)


def read_clip(data: Data, max_pixels: int, timeout_s: float) -> Result:
    """The pixels of a clip's first frame, and the other fields of `Clip`."""
    clip = video.read_clip(bytes(data), max_pixels, timeout_s)
    fields = (clip.width, clip.height, clip.fps, clip.frames, clip.duration_s, clip.has_audio)
    return Result(fields, pixels_of(clip.first_frame))


def sample_frames(
    data: Data, max_frames: int, max_pixels: int, start_s: float, end_s: float | None, timeout_s: float
) -> Result:
    """The pixels of the frames one after another, their sizes, and the other fields of `VideoFrames`."""
    found = frames.sample_frames(bytes(data), max_frames, max_pixels, start_s, end_s, timeout_s)
    facts = [getattr(found, field.name) for field in fields(found) if field.name != "frames"]
    return Result(([image.size for image in found.frames], facts), pixels_of_all(found.frames))


def check_video(data: Data, timeout_s: float) -> dict[str, object]:
    """The fields of `VideoFacts`."""
    return asdict(video.check_video(bytes(data), timeout_s))


def poster(data: Data) -> Result:
    """The size and pixels of a frame."""
    image = video.poster(bytes(data))
    return Result(image.size, pixels_of(image))


def add_audio(data: Data, audio: bytes) -> Result:
    """An MP4 file."""
    return Result(None, muxing.add_audio(bytes(data), audio))


def has_video(data: Data, timeout_s: float) -> bool:
    """Whether the file has a video stream."""
    with opened(bytes(data), VIDEO, Deadline(timeout_s, VIDEO.noun)) as container:
        return any(map(is_moving, container.streams.video))
