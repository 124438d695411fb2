"""Reads clips of callers, and checks videos that a server generated.

Of a clip, the first frame is decoded and the others are counted. Of a generated video, every frame is decoded. The
reported facts are measured, not read from the header.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from media.decoding.containers import (
    AUDIO_DECODERS,
    OPENING_BYTES,
    VIDEO_DECODERS,
    Deadline,
    damaged,
    decoder_of,
    is_moving,
    opened,
)
from media.errors import MediaTooLarge, MediaUnreadable
from media.kinds import VIDEO
from sandbox.memory import allowance

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from PIL.Image import Image

CLIP_TIMEOUT_S = 30.0
CHECK_TIMEOUT_S = 300.0
"""Decoding 2 minutes of 720p takes 20 s on a slow, busy machine."""
MAX_GENERATED_PIXELS = 8_294_400
"""Pixels in a frame of a generated video: 4K."""
CLIP_BYTES_PER_PIXEL = 16
"""Memory for the first frame: a few frames of 1.5 to 3 bytes per pixel, and the image."""
GENERATED_BYTES_PER_PIXEL = 100
"""Memory for decoding all frames: up to 16 reference frames, and one for each of up to 16 threads, at 10 bits."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A caller's clip: its first frame, upright and RGB, and its measured properties.

    `width` and `height` are those of the upright frame; `fps` is None for a single frame.
    """

    first_frame: Image
    width: int
    height: int
    fps: float | None
    frames: int
    duration_s: float
    has_audio: bool


@dataclass(frozen=True, slots=True)
class VideoFacts:
    """The properties of a completely decoded video; `audio_duration_s` is 0 without audio."""

    width: int
    height: int
    fps: float | None
    frames: int
    duration_s: float
    has_audio: bool
    audio_duration_s: float


def read_clip(data: bytes, max_pixels: int, timeout_s: float = CLIP_TIMEOUT_S) -> Clip:
    """Decodes a clip's first frame and counts the others.

    Raises: `MediaTooLarge` for frames above `max_pixels`; `MediaUnreadable` for data that is damaged or not video.
    """
    deadline = Deadline(timeout_s, VIDEO.noun)
    with opened(data, VIDEO, deadline, max_pixels) as container:
        stream = video_stream(container, max_pixels)
        allowance.allow(OPENING_BYTES + CLIP_BYTES_PER_PIXEL * stream.width * stream.height)
        timing = Timing(stream)
        first: Image | None = None
        for packet in container.demux(stream):
            deadline.check()
            if packet.size:
                timing.add(packet.pts, packet.duration)
            if first is None:
                first = next((upright(frame, max_pixels) for frame in decoded(packet)), None)
        deadline.check()
        if first is None:
            raise damaged(VIDEO)
        return Clip(
            first,
            first.width,
            first.height,
            timing.fps,
            timing.frames,
            timing.duration_s,
            bool(container.streams.audio),
        )


def check_video(data: bytes, timeout_s: float = CHECK_TIMEOUT_S) -> VideoFacts:
    """Decodes all frames and all audio of a generated video.

    Raises: `MediaUnreadable` for data that is not video, has no frames, or has one that cannot be decoded;
    `MediaTooLarge` for frames above `MAX_GENERATED_PIXELS`, and when it takes longer than `timeout_s`.
    """
    deadline = Deadline(timeout_s, VIDEO.noun)
    with opened(data, VIDEO, deadline, MAX_GENERATED_PIXELS) as container:
        stream = video_stream(container, MAX_GENERATED_PIXELS)
        allowance.allow(OPENING_BYTES + GENERATED_BYTES_PER_PIXEL * stream.width * stream.height)
        stream.thread_type = "AUTO"
        audio = next((one for one in container.streams.audio if decoder_of(one) in AUDIO_DECODERS), None)
        timing, size, audio_s = Timing(stream), (0, 0), 0.0
        packets: Iterator[Any] = container.demux([stream, audio] if audio else [stream])
        for packet in packets:
            deadline.check()
            for frame in packet.decode():
                if frame.is_corrupt:
                    raise damaged(VIDEO)
                if packet.stream is stream:
                    timing.add(frame.pts, frame.duration)
                    size = upright_size(frame)
                else:
                    audio_s += frame.samples / frame.sample_rate
        deadline.check()
        if not timing.frames:
            raise MediaUnreadable("The video has no frames.")
        if timing.frames < stream.frames:
            raise MediaUnreadable(f"The video is cut off: it has {timing.frames} of {stream.frames} frames.")
        return VideoFacts(*size, timing.fps, timing.frames, timing.duration_s, audio is not None, audio_s)


def poster(data: bytes) -> Image:
    """The middle frame of a video, upright and RGB; the first one is often black.

    Raises: `MediaUnreadable` or `MediaTooLarge`.
    """
    deadline = Deadline(CLIP_TIMEOUT_S, VIDEO.noun)
    with opened(data, VIDEO, deadline, MAX_GENERATED_PIXELS) as container:
        stream = video_stream(container, MAX_GENERATED_PIXELS)
        allowance.allow(OPENING_BYTES + GENERATED_BYTES_PER_PIXEL * stream.width * stream.height)
        middle = (stream.start_time or 0) + (stream.duration or 0) // 2
        if middle:
            container.seek(middle, stream=stream)
        last: VideoFrame | None = None
        for packet in container.demux(stream):
            deadline.check()
            for frame in decoded(packet):
                last = frame
                if frame.pts is None or frame.pts >= middle:
                    return upright(frame, MAX_GENERATED_PIXELS)
        if last is None:
            raise damaged(VIDEO)
        return upright(last, MAX_GENERATED_PIXELS)


class Timing:
    """Counts frames, and measures from the start of the first to the end of the last."""

    def __init__(self, stream: VideoStream) -> None:
        self._time_base = float(stream.time_base or 0)
        self._start = self._last = self._end = 0
        self.frames = 0

    def add(self, pts: int | None, duration: int | None) -> None:
        """Adds one frame; `pts` and `duration` are in units of the stream's time base."""
        self.frames += 1
        if pts is None:
            return
        end = pts + (duration or 0)
        if self.frames == 1:
            self._start, self._last, self._end = pts, pts, end
        self._start = min(self._start, pts)
        # Durations in MP4 files lie between decoding times: of frames that are not decoded in order they are wrong.
        if pts >= self._last:
            self._last, self._end = pts, end

    @property
    def fps(self) -> float | None:
        """The average number of frames per second."""
        span_s = (self._last - self._start) * self._time_base
        return round((self.frames - 1) / span_s, 3) if span_s > 0 else None

    @property
    def duration_s(self) -> float:
        """Seconds; a last frame without a duration lasts as long as the others."""
        end_s = (self._end - self._start) * self._time_base
        if self._end == self._last and self.fps:
            end_s += 1 / self.fps
        return end_s


def video_stream(container: InputContainer, max_pixels: int) -> VideoStream:
    """The first stream that is a video; raises `MediaUnreadable` or `MediaTooLarge` if it cannot be decoded."""
    stream = next(filter(is_moving, container.streams.video), None)
    if stream is None:
        raise MediaUnreadable("There is no video in this file.")
    if decoder_of(stream) not in VIDEO_DECODERS:
        raise MediaUnreadable("The video's codec is not supported; H.264, HEVC, VP8, VP9, AV1 and MPEG-4 are.")
    _check_pixels(stream.width, stream.height, max_pixels)
    # The codec may find another size than the container declares.
    stream.codec_context.options = {"max_pixels": str(max_pixels)}
    return stream


def decoded(packet: Packet[VideoStream]) -> Iterator[VideoFrame]:
    """The frames of a packet; errors are ignored, because a clip may begin in the middle of a group of pictures."""
    from av.error import FFmpegError

    try:
        yield from packet.decode()
    except FFmpegError:
        return


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise MediaTooLarge(f"The video has {width} × {height} pixels; {max_pixels} in total are allowed.")
    if width * height == 0:
        # FFmpeg reports no size for one above its limit.
        raise MediaTooLarge(f"The video's size is unknown or above the {max_pixels} pixels that are allowed.")


def upright_size(frame: VideoFrame) -> tuple[int, int]:
    """Width and height after the rotation that the file asks for."""
    return (frame.height, frame.width) if frame.rotation % 180 else (frame.width, frame.height)


def upright(frame: VideoFrame, max_pixels: int, max_result_pixels: int | None = None) -> Image:
    """The frame rotated as the file says: phones store rotated frames and the angle.

    Arguments:
        frame: decoded.
        max_pixels: a larger frame is refused with `MediaTooLarge`.
        max_result_pixels: a larger frame is scaled down to this many; `None` to keep its size.
    """
    from PIL.Image import Transpose

    _check_pixels(frame.width, frame.height, max_pixels)
    width, height = frame.width, frame.height
    if max_result_pixels is not None and width * height > max_result_pixels:
        scale = (max_result_pixels / (width * height)) ** 0.5
        width, height = max(1, int(width * scale)), max(1, int(height * scale))
    image: Image = frame.to_image(width=width, height=height, interpolation="AREA")  # type: ignore[no-untyped-call]
    turns = {90: Transpose.ROTATE_90, 180: Transpose.ROTATE_180, 270: Transpose.ROTATE_270}
    turn = turns.get(frame.rotation % 360)
    return image if turn is None else image.transpose(turn)
