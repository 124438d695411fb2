"""Any reference to sound becomes what models of speech and of talking video take: a WAV of one channel at 16 kHz.

The bytes decide what a file is; the sound of a video is read too. Whatever a header declares, decoding stops at the
limit, and what comes out of it is what counts.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from media.containers import (
    AUDIO_DECODERS,
    Deadline,
    damaged,
    decoder_of,
    format_of,
    is_moving,
    opened,
    start_of_stream,
)
from media.errors import MediaTooLarge, MediaUnreadable
from media.kinds import AUDIO
from media.layout import missing_share

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.resampler import AudioResampler
    from av.audio.stream import AudioStream
    from av.container import InputContainer

SAMPLE_RATE = 16_000
"""Hz that Wan2.2-S2V, LongCat-Video-Avatar and the speech encoders inside of them take."""
DECODE_TIMEOUT_S = 30.0
MIN_AUDIO_S = 0.1
"""One frame of video at 16 fps lasts 0.06 s: what is shorter than two frames moves no lips."""
SILENCE_DBFS = -60.0
"""Quieter at its loudest than this is no voice: speech peaks above -40 dBFS even when recorded badly, and the noise
of a muted microphone stays below -60."""
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1_000, 768_000
MAX_CHANNELS = 32

_ROUNDING_S = 0.1  # codecs pad the end of the sound to whole frames of their own
_CUT_S, _CUT_SHARE = 0.25, 0.01  # how much may be missing of what the header declares: codecs drop their first frames
_MAX_BAD_PACKETS, _MAX_BAD_SHARE = 2, 0.02  # tags at the end of an MP3 look like damaged packets


@dataclass(frozen=True, slots=True)
class DecodedAudio:
    """Sound, decoded: `wav` is a whole WAV file of signed 16-bit samples, one channel, at `sample_rate` Hz."""

    wav: bytes
    duration_s: float
    sample_rate: int


def decode_audio(
    data: bytes, max_s: float, sample_rate: int = SAMPLE_RATE, timeout_s: float = DECODE_TIMEOUT_S
) -> DecodedAudio:
    """Decodes a file of sound, or the sound of a video, and mixes and resamples it.

    Raises: `MediaTooLarge` above `max_s` seconds; `MediaUnreadable` for what is no sound, damaged, cut off, shorter
    than `MIN_AUDIO_S` or silent.
    """
    deadline = Deadline(timeout_s, AUDIO.noun)
    with opened(data, AUDIO, deadline) as container:
        stream = audio_stream(container)
        sound = _Sound(sample_rate, max_s)
        _decode_into(sound, container, stream, deadline)
        declared_s = _declared_s(container, stream, data, sound.duration_s)
    if declared_s is not None and sound.duration_s < declared_s * (1 - _CUT_SHARE) - _CUT_S:
        raise MediaUnreadable(
            f"The audio is cut off: it declares {declared_s:.1f} s, and there are {sound.duration_s:.1f} s."
        )
    if sound.duration_s < MIN_AUDIO_S:
        raise MediaUnreadable(f"The audio is empty: it lasts {sound.duration_s:.2f} s; {MIN_AUDIO_S} s is the least.")
    if sound.peak < 32_768 * 10 ** (SILENCE_DBFS / 20):
        raise MediaUnreadable(f"The audio is silent: mixed to one channel, it stays below {SILENCE_DBFS:g} dBFS.")
    return DecodedAudio(sound.wav(), sound.duration_s, sample_rate)


def audio_stream(container: InputContainer) -> AudioStream:
    """The stream of sound to use; raises `MediaUnreadable` if there is none that is read."""
    if not container.streams.audio:
        if any(map(is_moving, container.streams.video)):
            raise MediaUnreadable("There is no audio in this file: it is a video without sound.")
        raise MediaUnreadable("There is no audio in this file.")
    best = container.streams.best("audio")
    stream = next((one for one in container.streams.audio if one is best), container.streams.audio[0])
    if decoder_of(stream) not in AUDIO_DECODERS:
        raise MediaUnreadable("The audio is in a codec that is not read; MP3, AAC, FLAC, Opus, Vorbis and PCM are.")
    if not MIN_SAMPLE_RATE <= stream.sample_rate <= MAX_SAMPLE_RATE or not 0 < stream.channels <= MAX_CHANNELS:
        raise damaged(AUDIO)
    return stream


class Mixer:
    """Makes signed 16-bit samples of one layout and rate out of any others.

    Sound comes this way before it is encoded again, too: encoders of floats never come back from one that is infinite.
    """

    def __init__(self, layout: str, sample_rate: int) -> None:
        self._layout = layout
        self._sample_rate = sample_rate
        self._resampler: AudioResampler | None = None
        self._shape: tuple[str, str, int] | None = None

    def mixed(self, frame: AudioFrame) -> list[AudioFrame]:
        """Takes decoded samples; what comes out may lag behind."""
        import av

        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        before: list[AudioFrame] = []
        if self._resampler is None or shape != self._shape:
            # Some streams change in the middle: songs put one after another, MP3 that goes from stereo to mono.
            before = self.rest()
            self._resampler = av.AudioResampler(format="s16", layout=self._layout, rate=self._sample_rate)
            self._shape = shape
        frame.pts = None  # holes in time would be filled, also one of a year
        return before + self._resampler.resample(frame)

    def rest(self) -> list[AudioFrame]:
        """What has not come out yet."""
        resampler, self._resampler = self._resampler, None
        return resampler.resample(None) if resampler is not None else []


class _Sound:
    """Samples as they are decoded, mixed to one channel at one rate."""

    def __init__(self, sample_rate: int, max_s: float) -> None:
        self._sample_rate = sample_rate
        self._max_s = max_s
        self._samples = bytearray()
        self._low, self._high = 32_767, -32_768
        self._mixer = Mixer("mono", sample_rate)

    @property
    def duration_s(self) -> float:
        """Seconds so far."""
        return len(self._samples) / 2 / self._sample_rate

    @property
    def peak(self) -> float:
        """The largest swing so far, from 0 to 32768; a constant is no sound."""
        return (self._high - self._low) / 2

    def add(self, frame: AudioFrame) -> None:
        """Adds decoded samples; raises `MediaTooLarge` when they are too many."""
        self._take(self._mixer.mixed(frame))

    def end(self) -> None:
        """Adds what has been held back until now."""
        self._take(self._mixer.rest())

    def wav(self) -> bytes:
        """A WAV file with these samples."""
        import wave

        buffer = io.BytesIO()
        with wave.open(buffer, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(self._sample_rate)
            file.writeframes(self._samples)
        return buffer.getvalue()

    def _take(self, frames: list[AudioFrame]) -> None:
        for frame in frames:
            if not frame.samples:
                continue
            samples: Any = frame.to_ndarray()
            self._low = min(self._low, int(samples.min()))
            self._high = max(self._high, int(samples.max()))
            self._samples += samples.tobytes()
        if self.duration_s > self._max_s + _ROUNDING_S:
            raise MediaTooLarge(f"The audio is longer than the {self._max_s:g} s that OMNI_MAX_AUDIO_S allows.")


def _decode_into(sound: _Sound, container: InputContainer, stream: AudioStream, deadline: Deadline) -> None:
    from av.error import FFmpegError

    packets = bad_packets = 0
    for packet in container.demux(stream):
        deadline.check()
        packets += 1
        try:
            frames = packet.decode()
        except FFmpegError:
            bad_packets += 1
            continue
        for frame in frames:
            sound.add(frame)
    deadline.check()
    sound.end()
    if bad_packets > _MAX_BAD_PACKETS + packets * _MAX_BAD_SHARE:
        raise damaged(AUDIO)


def _declared_s(container: InputContainer, stream: AudioStream, data: bytes, decoded_s: float) -> float | None:
    """How long the header says that the sound is; None where it says nothing and FFmpeg would only guess."""
    in_stream_s = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else None
    match format_of(data):
        case "wav":
            there = 1 - missing_share(data)
            return decoded_s / there if there else None
        case "mov" | "aiff" | "flac":
            return in_stream_s
        case "mp3":
            start = start_of_stream(data)
            has_count = any(mark in data[start : start + 256] for mark in (b"Xing", b"Info", b"VBRI"))
            return in_stream_s if has_count else None
        case "matroska":
            # A length of the stream is a guess of FFmpeg's, made where the file declares none.
            return container.duration / 1e6 if in_stream_s is None and container.duration else None
        case _:
            return None
