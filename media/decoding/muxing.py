"""Adds audio to a video: frames are copied, audio is encoded as AAC."""

from __future__ import annotations

import heapq
import io
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING, Any

from media.decoding.audio import Mixer, audio_stream
from media.decoding.containers import Deadline, is_moving, opened
from media.decoding.video import MAX_GENERATED_PIXELS
from media.errors import MediaUnreadable
from media.kinds import AUDIO, VIDEO

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream

MUX_TIMEOUT_S = 60.0
AUDIO_BIT_RATE = 128_000
AAC_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
"""Sample rates of AAC in Hz, up to the highest that all players support."""


def add_audio(video: bytes, audio: bytes) -> bytes:
    """Returns an MP4 with the frames of `video`, not encoded again, and the audio of `audio` as AAC.

    Both start together, and each keeps its duration. An audio track of `video` is dropped.

    Raises: `MediaUnreadable` or `MediaTooLarge`.
    """
    import av

    deadline = Deadline(MUX_TIMEOUT_S, VIDEO.noun)
    result = io.BytesIO()
    with (
        opened(video, VIDEO, deadline, MAX_GENERATED_PIXELS) as video_container,
        opened(audio, AUDIO, deadline) as audio_container,
        av.open(result, "w", format="mp4") as out,
    ):
        frames = next(filter(is_moving, video_container.streams.video), None)
        if frames is None:
            raise MediaUnreadable("There is no video in this file.")
        source = audio_stream(audio_container)
        copied = out.add_stream_from_template(frames)
        rate = next((rate for rate in AAC_RATES if rate >= source.sample_rate), AAC_RATES[-1])
        encoded = out.add_stream("aac", rate=rate)
        encoded.layout = "mono" if source.channels == 1 else "stereo"
        encoded.bit_rate = AUDIO_BIT_RATE
        packets = (_copied(video_container, frames, copied), _encoded(audio_container, source, encoded))
        # Audio and video are interleaved: some players do not start when all audio follows the last frame.
        for packet in heapq.merge(*packets, key=_time):
            deadline.check()
            out.mux(packet)
    return result.getvalue()


def _copied(container: InputContainer, source: VideoStream, target: VideoStream) -> Iterator[Any]:
    for packet in container.demux(source):
        if packet.dts is not None:
            packet.stream = target
            yield packet


def _encoded(container: InputContainer, source: AudioStream, target: AudioStream) -> Iterator[Any]:
    samples = 0
    mixer = Mixer(target.layout.name, target.sample_rate)
    for decoded in chain(container.decode(source), [None]):
        for frame in mixer.mixed(decoded) if decoded else mixer.rest():
            frame.pts, frame.time_base = samples, Fraction(1, target.sample_rate)
            samples += frame.samples
            yield from target.encode(frame)
    yield from target.encode(None)


def _time(packet: Any) -> Fraction:
    return Fraction(packet.dts * packet.time_base)
