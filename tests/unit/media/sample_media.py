"""Audio and video files that the tests generate, in every supported format and in some unsupported ones."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from typing import Any, cast

import av
import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float64]


def tone(rate: int, seconds: float, loudness: float = 0.5) -> Samples:
    """A tone of 440 Hz; loudness is its peak, from 0 to 1."""
    return loudness * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate)


def audio_file(
    format: str = "wav",
    codec: str = "pcm_s16le",
    rate: int = 16_000,
    layout: str = "mono",
    seconds: float = 1.0,
    samples: Samples | None = None,
    tags: dict[str, str] | None = None,
) -> bytes:
    """A tone, or these samples on every channel, in any format that FFmpeg writes."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format) as out:
        out.metadata.update(tags or {})
        stream = cast(Any, out.add_stream(codec, rate=rate))
        stream.layout = layout
        if codec == "vorbis":
            stream.options = {"strict": "-2"}
        out.start_encoding()
        _write_audio(out, stream, tone(rate, seconds) if samples is None else samples)
    return buffer.getvalue()


tone_file = cache(audio_file)
"""As `audio_file`, for tests with many cases of one file: encodes a tone once."""


@cache
def video_file(
    format: str = "mp4",
    codec: str = "libx264",
    size: tuple[int, int] = (64, 48),
    frames: int = 16,
    fps: int = 16,
    audio: str | None = None,
    audio_s: float | None = None,
    black_frames: int = 0,
    matrix: Sequence[int] | None = None,
) -> bytes:
    """A video whose upper left quarter is red and whose blue grows from frame to frame.

    `audio` is the codec of its audio; `black_frames` are at its beginning; `matrix` says how players turn it.
    """
    width, height = size
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format) as out:
        stream = cast(Any, out.add_stream(codec, rate=fps))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if codec == "libx265":
            stream.options = {"x265-params": "log-level=none:bframes=0"}
        if matrix is not None:
            stream.set_display_matrix(matrix)
        track = cast(Any, out.add_stream(audio, rate=48_000, layout="mono")) if audio else None
        for number in range(frames):
            pixels = np.zeros((height, width, 3), np.uint8)
            if number >= black_frames:
                pixels[: height // 2, : width // 2, 0] = 255
                pixels[..., 2] = number * 200 // frames
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if track is not None:
            _write_audio(out, track, tone(48_000, frames / fps if audio_s is None else audio_s))
    return buffer.getvalue()


def _write_audio(out: Any, stream: Any, samples: Samples) -> None:
    channels = stream.layout.nb_channels
    for start in range(0, len(samples), 1_024):
        part = np.repeat(samples[None, start : start + 1_024], channels, 0).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(cast(Any, part), format="fltp", layout=stream.layout.name)
        frame.sample_rate, frame.pts, frame.time_base = stream.rate, start, Fraction(1, stream.rate)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def raw_wav(
    data: bytes,
    channels: int = 1,
    rate: int = 16_000,
    bits: int = 16,
    *,
    tag: int = 1,
    riff_size: int | None = None,
    data_size: int | None = None,
) -> bytes:
    """A WAV file field by field, also with values that no correct program writes."""
    frame_bytes = channels * bits // 8
    header = struct.pack("<HHIIHH", tag, channels, rate, rate * frame_bytes % 2**32, frame_bytes % 2**16, bits)
    size = len(data) if data_size is None else data_size
    body = b"WAVEfmt " + struct.pack("<I", len(header)) + header + b"data" + struct.pack("<I", size) + data
    return b"RIFF" + struct.pack("<I", len(body) if riff_size is None else riff_size) + body


def pcm(samples: Samples) -> bytes:
    """Samples from -1 to 1 as signed 16-bit."""
    return (samples * 32_767).astype("<i2").tobytes()


def samples_of(wav: bytes) -> Samples:
    """The samples of a WAV file of ours, from -1 to 1."""
    return np.frombuffer(wav[44:], "<i2") / 32_768
