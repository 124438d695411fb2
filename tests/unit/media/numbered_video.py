"""Videos whose frames show their own number, so that a test sees which of them were returned, and at which times."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from typing import Any, cast

import av
import numpy as np
from PIL import Image

BITS = 12
SIZE = (192, 64)
MILLISECOND = Fraction(1, 1_000)


def numbered_frame(number: int, size: tuple[int, int] = SIZE) -> Any:
    """An RGB array with the bits of a number as black and white stripes, the lowest on the left."""
    width, height = size
    columns = np.arange(width) * BITS // width
    return np.repeat((number >> columns & 1).astype(np.uint8)[None, :, None] * 255, 3, 2).repeat(height, 0)


def number_in(image: Image.Image) -> int:
    """The number that a frame shows."""
    width, height = image.size
    middles = [(2 * bit + 1) * width // (2 * BITS) for bit in range(BITS)]
    shades = [cast("tuple[int, int, int]", image.getpixel((x, height // 2)))[1] for x in middles]
    return sum((shade > 128) << bit for bit, shade in enumerate(shades))


@cache
def numbered_video(
    n_frames: int = 100,
    fps: int = 25,
    format: str = "mp4",
    codec: str = "libx264",
    options: tuple[tuple[str, str], ...] = (),
    times_ms: Sequence[int] | None = None,
    size: tuple[int, int] = SIZE,
    container_options: tuple[tuple[str, str], ...] = (),
) -> bytes:
    """A video of so many frames at a constant rate, or with a frame at each of these times in milliseconds."""
    if times_ms is None:
        times_ms = [number * 1_000 // fps for number in range(n_frames)]
    return encoded(
        {time_ms: numbered_frame(number, size) for number, time_ms in enumerate(times_ms)},
        fps,
        format,
        codec,
        dict(options),
        dict(container_options),
    )


def encoded(
    frames: Mapping[int, Any],
    fps: int = 25,
    format: str = "mp4",
    codec: str = "libx264",
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
) -> bytes:
    """A video of RGB arrays by their times in milliseconds."""
    height, width, _ = next(iter(frames.values())).shape
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=format, container_options=dict(container_options or {})) as out:
        stream = cast(Any, out.add_stream(codec, rate=fps, options=dict(options or {})))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.time_base = MILLISECOND
        for time_ms, pixels in frames.items():
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time_ms, MILLISECOND
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return buffer.getvalue()
