"""Frames of a video, spread evenly over a span of its time.

The file is read twice. First all packets are read without decoding them: they have the exact time of every frame,
whatever the headers declare. Then only the packets from a keyframe to a wanted frame are decoded. The container's own
index is not used, because many files have none or a wrong one.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from media.decoding.containers import OPENING_BYTES, Deadline, damaged, opened
from media.decoding.video import Timing, decoded, upright, upright_size, video_stream
from media.errors import MediaTooLarge, MediaUnreadable
from media.kinds import VIDEO
from sandbox.memory import allowance

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from PIL.Image import Image

FRAMES_TIMEOUT_S = 60.0
"""Decoding 16 frames of a 1080p file with a keyframe every 10 s takes 10 s on a slow machine."""
MAX_FRAMES = 256
MAX_FRAME_PIXELS = 602_112
"""Pixels of one returned frame: 768 patches of 28 × 28, what Qwen's processors take of a frame of a video at most."""
MAX_FRAMES_BYTES = 256 << 20
"""Bytes of all returned frames of one video, at Pillow's 4 bytes per pixel: 111 frames of `MAX_FRAME_PIXELS`."""
DECODING_BYTES_PER_PIXEL = 64
"""Memory for decoding: up to 16 reference frames and the frames of the threads, at 10 bits for large sizes less."""
N_THREADS = 2
MAX_PACKETS = 1_000_000
"""Nine hours at 30 frames per second."""
ROUNDING_S = 0.0005
"""Times of callers are rounded to milliseconds."""
_BYTES_PER_PIXEL = 4


@dataclass(frozen=True, slots=True)
class VideoFrames:
    """Some frames of a video in the order of their times, upright and RGB, and the video's measured properties.

    Attributes:
        frames: the images, at most `MAX_FRAME_PIXELS` each.
        times_s: the time of each frame, in seconds from the first frame of the video.
        indices: the number of each frame in the video, from 0.
        width, height: of the upright frames in the file.
        duration_s: of the whole video.
        fps: the average number of frames per second; None for a single frame.
        n_frames: of the whole video.
        has_audio: whether the file has an audio track.
        digest: SHA-256 of the file in hex.
    """

    frames: tuple[Image, ...]
    times_s: tuple[float, ...]
    indices: tuple[int, ...]
    width: int
    height: int
    duration_s: float
    fps: float | None
    n_frames: int
    has_audio: bool
    digest: str

    @property
    def n_bytes(self) -> int:
        """The size of the images in memory."""
        return sum(frame.width * frame.height for frame in self.frames) * _BYTES_PER_PIXEL

    def digest_of(self, position: int) -> str:
        """SHA-256 in hex that names one of the images: of the file, the frame's number and its size."""
        width, height = self.frames[position].size
        return hashlib.sha256(f"{self.digest} {self.indices[position]} {width}x{height}".encode("ascii")).hexdigest()


def sample_frames(
    data: bytes,
    max_frames: int,
    max_pixels: int,
    start_s: float = 0.0,
    end_s: float | None = None,
    timeout_s: float = FRAMES_TIMEOUT_S,
) -> VideoFrames:
    """Decodes up to `max_frames` frames that are shown between two times.

    The span is divided into `max_frames` equal parts, and the frame that is shown in the middle of each part is taken;
    if the span has no more frames than that, all of them. A frame that is already shown at `start_s` counts, with its
    own time. A frame that cannot be decoded is replaced by the one before.

    Arguments:
        data: the file.
        max_frames: 1 to `MAX_FRAMES`.
        max_pixels: the largest frame in the file.
        start_s: where the span begins, in seconds from the first frame.
        end_s: where it ends, greater than `start_s`; `None` or a later time for the end of the video.
        timeout_s: the longest time.

    Raises: `MediaTooLarge` for frames above `max_pixels`, for too many frames and when it takes longer than
    `timeout_s`; `MediaUnreadable` for data that is damaged or not video, and if the video ends before `start_s`.
    """
    deadline = Deadline(timeout_s, VIDEO.noun)
    with opened(data, VIDEO, deadline, max_pixels) as container:
        timeline = _Timeline(container, video_stream(container, max_pixels), deadline)
        has_audio = bool(container.streams.audio)
    if not timeline.n_frames:
        raise damaged(VIDEO)
    wanted = timeline.spread(max_frames, start_s, end_s)
    with opened(data, VIDEO, deadline, max_pixels) as container:
        stream = video_stream(container, max_pixels)
        allowance.allow(memory_bytes(stream.width * stream.height))
        stream.codec_context.thread_count = N_THREADS
        stream.thread_type = "AUTO"
        pixels_each = min(MAX_FRAME_PIXELS, MAX_FRAMES_BYTES // _BYTES_PER_PIXEL // len(wanted))
        taken: dict[int, Image] = {}
        size = (0, 0)
        for time, frame in _wanted_frames(container, stream, timeline.runs(wanted), deadline):
            if time not in taken:
                taken[time] = upright(frame, max_pixels, pixels_each)
                size = upright_size(frame)
    deadline.check()
    if not taken:
        raise damaged(VIDEO)
    times = sorted(taken)
    return VideoFrames(
        tuple(taken[time] for time in times),
        tuple(timeline.seconds(time) for time in times),
        tuple(timeline.index(time) for time in times),
        *size,
        timeline.duration_s,
        timeline.fps,
        timeline.n_frames,
        has_audio,
        hashlib.sha256(data).hexdigest(),
    )


def memory_bytes(n_pixels: int) -> int:
    """Memory that `sample_frames` may take for a video with frames of `n_pixels`."""
    return OPENING_BYTES + DECODING_BYTES_PER_PIXEL * n_pixels + MAX_FRAMES_BYTES


@dataclass(frozen=True, slots=True)
class _Run:
    """The packets to decode for some frames: from the keyframe `first` to `last`, by their position in the file."""

    first: int
    last: int
    wanted: list[int]


class _Timeline:
    """The times of all packets of a video, in the units of the stream's time base.

    `shown` has the times of the frames in the order in which they are shown; `_times` and `_keyframes` are in the order
    in which packets are stored and decoded.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, deadline: Deadline) -> None:
        self._time_base = float(stream.time_base or 0)
        self._times = array("q")
        self._keyframes = array("q")
        timing, shown = Timing(stream), array("q")
        for packet in _packets(container, stream, deadline):
            time = _time_of(packet, len(self._times))
            if packet.is_keyframe:
                self._keyframes.append(len(self._times))
            self._times.append(time)
            # Edit lists of MP4 files hide frames that others need.
            if not packet.is_discard:
                timing.add(time, packet.duration)
                shown.append(time)
            if len(self._times) > MAX_PACKETS:
                raise MediaTooLarge(f"The video has more than {MAX_PACKETS} frames.")
        self.shown = array("q", sorted(shown))
        self.duration_s, self.fps = timing.duration_s, timing.fps

    @property
    def n_frames(self) -> int:
        """How many frames are shown."""
        return len(self.shown)

    def seconds(self, time: int) -> float:
        """A time in seconds from the first frame."""
        return (time - self.shown[0]) * self._time_base

    def index(self, time: int) -> int:
        """The number of the frame that is shown at a time, from 0."""
        return max(0, bisect_right(self.shown, time) - 1)

    def spread(self, max_frames: int, start_s: float, end_s: float | None) -> list[int]:
        """The times of the frames to decode, in order; see `sample_frames`."""
        if start_s > 0 and start_s >= self.duration_s:
            raise MediaUnreadable(f"The video ends at {self.duration_s:.3f} s; there is nothing from {start_s:g} s on.")
        end_s = self.duration_s if end_s is None else min(end_s, self.duration_s)
        first, last = self._index_at(start_s), self._last_before(end_s)
        if last - first < max_frames:
            return sorted(set(self.shown[first : last + 1]))
        step_s = (end_s - start_s) / max_frames
        middles = (start_s + (number + 0.5) * step_s for number in range(max_frames))
        return sorted({self.shown[min(max(self._index_at(middle_s), first), last)] for middle_s in middles})

    def runs(self, wanted: Sequence[int]) -> list[_Run]:
        """What to decode for the frames of these times."""
        of_wanted = set(wanted)
        positions = {time: position for position, time in enumerate(self._times) if time in of_wanted}
        runs: list[_Run] = []
        for last, time in sorted((positions[time], time) for time in wanted):
            run = _Run(self._keyframe_before(last), last, [time])
            while runs and run.first <= runs[-1].last:
                earlier = runs.pop()
                run = _Run(min(earlier.first, run.first), last, sorted(earlier.wanted + run.wanted))
            runs.append(run)
        return runs

    def _index_at(self, time_s: float) -> int:
        """The number of the frame that is shown at a time."""
        units = (time_s + ROUNDING_S) / self._time_base if self._time_base else 0.0
        return self.index(self.shown[0] + int(units))

    def _last_before(self, time_s: float) -> int:
        index = self._index_at(time_s)
        return index - 1 if index and self.seconds(self.shown[index]) >= time_s - ROUNDING_S else index

    def _keyframe_before(self, position: int) -> int:
        """The keyframe from which a packet can be decoded: not one that is shown later, whose predecessors in time may
        refer to the frames before it."""
        for number in range(bisect_right(self._keyframes, position) - 1, -1, -1):
            if self._times[self._keyframes[number]] <= self._times[position]:
                return self._keyframes[number]
        return 0


def _wanted_frames(
    container: InputContainer, stream: VideoStream, runs: Sequence[_Run], deadline: Deadline
) -> Iterator[tuple[int, VideoFrame]]:
    """The wanted frames, each with its time; instead of a frame that cannot be decoded, the one before."""
    for run, frames in _decoded_runs(container, stream, runs, deadline):
        pending = list(run.wanted)
        before: tuple[int, VideoFrame] | None = None
        for frame in frames:
            time = frame.pts if frame.pts is not None else frame.dts
            if time is None:
                time = pending[0] if pending else 0
            while pending and pending[0] < time:
                pending.pop(0)
                yield before or (time, frame)
            if pending and pending[0] == time:
                pending.pop(0)
                yield time, frame
            before = time, frame
        if pending and before is not None:
            yield before


def _decoded_runs(
    container: InputContainer, stream: VideoStream, runs: Sequence[_Run], deadline: Deadline
) -> Iterator[tuple[_Run, Iterator[VideoFrame]]]:
    """Decodes each run of packets from a new state of the decoder; its frames are to be used before the next run."""
    packets = enumerate(_packets(container, stream, deadline))
    for run in runs:
        yield run, _decoded_run(stream, run, packets)
        stream.codec_context.flush_buffers()


def _decoded_run(
    stream: VideoStream, run: _Run, packets: Iterator[tuple[int, Packet[VideoStream]]]
) -> Iterator[VideoFrame]:
    from av.error import FFmpegError

    for position, packet in packets:
        if position >= run.first:
            yield from decoded(packet)
        if position >= run.last:
            break
    with suppress(FFmpegError):
        yield from stream.codec_context.decode(None)


def _packets(container: InputContainer, stream: VideoStream, deadline: Deadline) -> Iterator[Packet[VideoStream]]:
    for packet in container.demux(stream):
        deadline.check()
        if packet.size:
            yield packet
    deadline.check()


def _time_of(packet: Packet[VideoStream], position: int) -> int:
    """When a packet's frame is shown, in units of the time base."""
    if packet.pts is not None:
        return packet.pts
    return packet.dts if packet.dts is not None else position * (packet.duration or 1)
