"""Videos: clips that callers refer to, and files that a server has made, looked at before anybody gets them.

Of a clip the first frame is decoded, and the rest is counted; of a file that was made every frame is. What is told of
either is measured, not read from its header.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from media.containers import (
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
"""Decoding 2 minutes of 720p takes 20 s on a slow machine that does other things as well."""
MAX_MADE_PIXELS = 8_294_400
"""Pixels in a frame of a file that a server has made: 4K."""
CLIP_BYTES_PER_PIXEL = 16
"""Memory for the first frame: a few frames of 1.5 to 3 bytes a pixel, and the picture that is made of one."""
MADE_BYTES_PER_PIXEL = 100
"""Memory for decoding all frames: up to 16 that others refer to, and one for each of up to 16 threads, at 10 bits."""


@dataclass(frozen=True, slots=True)
class Clip:
    """A clip of a caller: its first frame, upright and RGB, and what is in it.

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
    """What is in a file that was decoded from its first frame to its last; `audio_duration_s` is 0 without sound."""

    width: int
    height: int
    fps: float | None
    frames: int
    duration_s: float
    has_audio: bool
    audio_duration_s: float


def read_clip(data: bytes, max_pixels: int, timeout_s: float = CLIP_TIMEOUT_S) -> Clip:
    """Decodes a clip's first frame and counts the others.

    Raises: `MediaTooLarge` for frames above `max_pixels`; `MediaUnreadable` for what is no video or damaged.
    """
    deadline = Deadline(timeout_s, VIDEO.noun)
    with opened(data, VIDEO, deadline, max_pixels) as container:
        stream = _video_stream(container, max_pixels)
        allowance.allow(OPENING_BYTES + CLIP_BYTES_PER_PIXEL * stream.width * stream.height)
        timing = _Timing(stream)
        first: Image | None = None
        for packet in container.demux(stream):
            deadline.check()
            if packet.size:
                timing.add(packet.pts, packet.duration)
            if first is None:
                first = next((_upright(frame, max_pixels) for frame in _decoded(packet)), None)
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
    """Decodes a file that was made, picture and sound, from its first frame to its last.

    Raises: `MediaUnreadable` for what is no video, has no frames, or has any that cannot be decoded; `MediaTooLarge`
    for frames above `MAX_MADE_PIXELS`, and when it takes longer than `timeout_s`.
    """
    deadline = Deadline(timeout_s, VIDEO.noun)
    with opened(data, VIDEO, deadline, MAX_MADE_PIXELS) as container:
        stream = _video_stream(container, MAX_MADE_PIXELS)
        allowance.allow(OPENING_BYTES + MADE_BYTES_PER_PIXEL * stream.width * stream.height)
        stream.thread_type = "AUTO"
        sound = next((one for one in container.streams.audio if decoder_of(one) in AUDIO_DECODERS), None)
        timing, size, audio_s = _Timing(stream), (0, 0), 0.0
        packets: Iterator[Any] = container.demux([stream, sound] if sound else [stream])
        for packet in packets:
            deadline.check()
            for frame in packet.decode():
                if frame.is_corrupt:
                    raise damaged(VIDEO)
                if packet.stream is stream:
                    timing.add(frame.pts, frame.duration)
                    size = _upright_size(frame)
                else:
                    audio_s += frame.samples / frame.sample_rate
        deadline.check()
        if not timing.frames:
            raise MediaUnreadable("The video has no frames.")
        if timing.frames < stream.frames:
            raise MediaUnreadable(f"The video is cut off: it declares {stream.frames} frames and has {timing.frames}.")
        return VideoFacts(*size, timing.fps, timing.frames, timing.duration_s, sound is not None, audio_s)


def poster(data: bytes) -> Image:
    """The frame in the middle of a video, upright and RGB: the first one is often black.

    Raises `MediaUnreadable` or `MediaTooLarge`.
    """
    deadline = Deadline(CLIP_TIMEOUT_S, VIDEO.noun)
    with opened(data, VIDEO, deadline, MAX_MADE_PIXELS) as container:
        stream = _video_stream(container, MAX_MADE_PIXELS)
        allowance.allow(OPENING_BYTES + MADE_BYTES_PER_PIXEL * stream.width * stream.height)
        middle = (stream.start_time or 0) + (stream.duration or 0) // 2
        if middle:
            container.seek(middle, stream=stream)
        last: VideoFrame | None = None
        for packet in container.demux(stream):
            deadline.check()
            for frame in _decoded(packet):
                last = frame
                if frame.pts is None or frame.pts >= middle:
                    return _upright(frame, MAX_MADE_PIXELS)
        if last is None:
            raise damaged(VIDEO)
        return _upright(last, MAX_MADE_PIXELS)


class _Timing:
    """Counts frames and measures from the beginning of the first to the end of the last."""

    def __init__(self, stream: VideoStream) -> None:
        self._time_base = float(stream.time_base or 0)
        self._start = self._last = self._end = 0
        self.frames = 0

    def add(self, pts: int | None, duration: int | None) -> None:
        """Takes one frame; `pts` and `duration` in units of the stream."""
        self.frames += 1
        if pts is None:
            return
        end = pts + (duration or 0)
        if self.frames == 1:
            self._start, self._last, self._end = pts, pts, end
        self._start, self._last, self._end = min(self._start, pts), max(self._last, pts), max(self._end, end)

    @property
    def fps(self) -> float | None:
        """Frames a second on average."""
        span_s = (self._last - self._start) * self._time_base
        return round((self.frames - 1) / span_s, 3) if span_s > 0 else None

    @property
    def duration_s(self) -> float:
        """Seconds; the last frame lasts as long as the others where the file does not say how long."""
        end_s = (self._end - self._start) * self._time_base
        if self._end == self._last and self.fps:
            end_s += 1 / self.fps
        return end_s


def _video_stream(container: InputContainer, max_pixels: int) -> VideoStream:
    stream = next(filter(is_moving, container.streams.video), None)
    if stream is None:
        raise MediaUnreadable("There is no video in this file.")
    if decoder_of(stream) not in VIDEO_DECODERS:
        raise MediaUnreadable("The video is in a codec that is not read; H.264, HEVC, VP8, VP9, AV1 and MPEG-4 are.")
    _check_pixels(stream.width, stream.height, max_pixels)
    # What the container says of the size need not be what the codec finds.
    stream.codec_context.options = {"max_pixels": str(max_pixels)}
    return stream


def _decoded(packet: Packet[VideoStream]) -> Iterator[VideoFrame]:
    """A packet's frames. What cannot be decoded is passed over: a clip may begin in the middle of a group."""
    from av.error import FFmpegError

    try:
        yield from packet.decode()
    except FFmpegError:
        return


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise MediaTooLarge(f"The video has {width} × {height} pixels; {max_pixels} in all are allowed.")
    if width * height == 0:
        # FFmpeg forgets sizes that it was told not to decode.
        raise MediaTooLarge(f"The video has no known size, or more than the {max_pixels} pixels that are allowed.")


def _upright_size(frame: VideoFrame) -> tuple[int, int]:
    return (frame.height, frame.width) if frame.rotation % 180 else (frame.width, frame.height)


def _upright(frame: VideoFrame, max_pixels: int) -> Image:
    """The frame as it is meant to be seen: phones film with the picture lying on its side and a note to turn it."""
    from PIL.Image import Transpose

    _check_pixels(frame.width, frame.height, max_pixels)
    image: Image = frame.to_image()  # type: ignore[no-untyped-call]
    turns = {90: Transpose.ROTATE_90, 180: Transpose.ROTATE_180, 270: Transpose.ROTATE_270}
    turn = turns.get(frame.rotation % 360)
    return image if turn is None else image.transpose(turn)
