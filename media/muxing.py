"""Sound put to a video that has none: the frames are copied as they are, the sound is encoded anew."""

from __future__ import annotations

import heapq
import io
from collections.abc import Iterator
from fractions import Fraction
from itertools import chain
from typing import TYPE_CHECKING, Any

from media.audio import Mixer, audio_stream
from media.containers import Deadline, is_moving, opened
from media.errors import MediaUnreadable
from media.kinds import AUDIO, VIDEO
from media.video import MAX_MADE_PIXELS

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream

MUX_TIMEOUT_S = 60.0
BITS_A_SECOND = 128_000
AAC_RATES = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
"""Hz that AAC knows, up to what is played everywhere."""


def with_sound(video: bytes, audio: bytes) -> bytes:
    """An MP4 with the frames of `video`, not encoded again, and the sound of `audio` as AAC.

    Both begin together, and each keeps its length. Sound that `video` had is dropped.

    Raises `MediaUnreadable` or `MediaTooLarge`.
    """
    import av

    deadline = Deadline(MUX_TIMEOUT_S, VIDEO.noun)
    made = io.BytesIO()
    with (
        opened(video, VIDEO, deadline, MAX_MADE_PIXELS) as pictures,
        opened(audio, AUDIO, deadline) as sound,
        av.open(made, "w", format="mp4") as out,
    ):
        frames = next(filter(is_moving, pictures.streams.video), None)
        if frames is None:
            raise MediaUnreadable("There is no video in this file.")
        source = audio_stream(sound)
        copied = out.add_stream_from_template(frames)
        rate = next((rate for rate in AAC_RATES if rate >= source.sample_rate), AAC_RATES[-1])
        encoded = out.add_stream("aac", rate=rate)
        encoded.layout = "mono" if source.channels == 1 else "stereo"
        encoded.bit_rate = BITS_A_SECOND
        packets = (_copied(pictures, frames, copied), _encoded(sound, source, encoded))
        # Players read both at a time: sound that lies behind the last frame would keep some of them from starting.
        for packet in heapq.merge(*packets, key=_moment):
            deadline.check()
            out.mux(packet)
    return made.getvalue()


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


def _moment(packet: Any) -> Fraction:
    return Fraction(packet.dts * packet.time_base)
