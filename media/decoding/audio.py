"""Decodes audio to what speech and talking-video models take: mono at 16 kHz, as samples or as a WAV file.

The format is detected from the content. The audio track of a video is decoded too. Limits apply to the decoded audio,
whatever the header declares.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from media.decoding.container_layout import missing_share
from media.decoding.containers import (
    AUDIO_DECODERS,
    OPENING_BYTES,
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
from sandbox.memory import allowance
from sandbox.result import Pending

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.resampler import AudioResampler
    from av.audio.stream import AudioStream
    from av.container import InputContainer

SAMPLE_RATE = 16_000
"""Hz; the input of Wan2.2-S2V, LongCat-Video-Avatar and their speech encoders, and of Whisper."""
DECODE_TIMEOUT_S = 30.0
SPEECH_TIMEOUT_S = 300.0
"""Four hours of MP3 take 30 s on a quiet machine."""
MAX_SPEECH_S = 4 * 3_600.0
"""Seconds of speech that are decoded at once: they take 922 MB as samples, and 2.4 GB for a moment while they are
handed over by the child."""
BYTES_PER_S = 4 * 2 * SAMPLE_RATE
"""Memory for a second of audio: two bytes per sample, held up to four times while the result is written."""
MIN_AUDIO_S = 0.1
"""Shorter than two frames of video at 16 fps, which show no lip movement."""
SILENCE_DBFS = -60.0
"""Audio whose peak is below this is silent: badly recorded speech peaks above -40 dBFS, the noise of a muted microphone
stays below -60."""
PART_S = 0.02
"""The length of a part that is heard or silent."""
MIN_SAMPLE_RATE, MAX_SAMPLE_RATE = 1_000, 768_000
MAX_CHANNELS = 32

_FULL_SCALE = 32_768
_ROUNDING_S = 0.1  # codecs pad the end to whole frames
_CUT_S, _CUT_SHARE = 0.25, 0.01  # how much less than declared is accepted: codecs drop their first frames
_ALLOWED_STEP = 8 << 20
_MAX_BAD_PACKETS, _MAX_BAD_SHARE = 2, 0.02  # tags at the end of an MP3 look like damaged packets


@dataclass(frozen=True, slots=True)
class AudioFacts:
    """What decoding a whole audio file shows; `heard_s` is how many seconds of it are not silent."""

    duration_s: float
    heard_s: float
    sample_rate: int


@dataclass(frozen=True, slots=True)
class DecodedAudio:
    """Decoded audio: `wav` is a WAV file of signed 16-bit mono samples at `sample_rate` Hz."""

    wav: bytes
    duration_s: float
    sample_rate: int


def decode_audio(
    data: bytes, max_s: float, sample_rate: int = SAMPLE_RATE, timeout_s: float = DECODE_TIMEOUT_S
) -> DecodedAudio:
    """Decodes an audio file or the audio track of a video, mixed to mono and resampled.

    Raises: `MediaTooLarge` above `max_s` seconds; `MediaUnreadable` for data that is not audio, or is damaged, cut off,
    shorter than `MIN_AUDIO_S` or silent.
    """
    limit = f"The audio is longer than the {max_s:g} s that OMNI_MAX_AUDIO_S allows."
    samples = _decoded(data, _Samples(sample_rate, max_s, limit, len(data)), timeout_s)
    if samples.duration_s < MIN_AUDIO_S:
        raise MediaUnreadable(
            f"The audio is too short: it lasts {samples.duration_s:.2f} s; the minimum is {MIN_AUDIO_S} s."
        )
    if samples.peak < _FULL_SCALE * 10 ** (SILENCE_DBFS / 20):
        raise MediaUnreadable(f"The audio is silent: mixed to mono, it stays below {SILENCE_DBFS:g} dBFS.")
    return DecodedAudio(samples.wav(), samples.duration_s, sample_rate)


def check_audio(data: bytes, max_s: float, timeout_s: float = DECODE_TIMEOUT_S) -> AudioFacts:
    """Decodes a generated audio file to its end; it may be silent.

    Raises: `MediaTooLarge` above `max_s` seconds; `MediaUnreadable` for data that is not audio, is damaged or cut off.
    """
    limit = f"The audio is longer than {max_s:g} s."
    samples = _decoded(data, _Samples(SAMPLE_RATE, max_s, limit, len(data)), timeout_s)
    return AudioFacts(samples.duration_s, samples.heard_s(), samples.encoded_rate)


def decode_speech(data: bytes, max_s: float, timeout_s: float = SPEECH_TIMEOUT_S) -> tuple[Pending, float]:
    """Decodes an audio file or the audio track of a video to mono samples at `SAMPLE_RATE`; it may be silent or empty.

    Returns: the samples as float32 in little-endian order between -1 and 1, and their duration in seconds.
    Raises: `MediaTooLarge` above `max_s` seconds; `MediaUnreadable` for data that is not audio, is damaged or cut off.
    """
    limit = f"The audio is longer than {_spoken(max_s)}, the most that is taken at once. Cut it into parts."
    samples = _decoded(data, _Samples(SAMPLE_RATE, max_s, limit, len(data)), timeout_s)
    return samples.floats(), samples.duration_s


def _decoded(data: bytes, samples: _Samples, timeout_s: float) -> _Samples:
    deadline = Deadline(timeout_s, AUDIO.noun)
    with opened(data, AUDIO, deadline) as container:
        stream = audio_stream(container)
        samples.encoded_rate = stream.sample_rate
        _decode_into(samples, container, stream, deadline)
        declared_s = _declared_s(container, stream, data, samples.duration_s)
    if declared_s is not None and samples.duration_s < declared_s * (1 - _CUT_SHARE) - _CUT_S:
        raise MediaUnreadable(
            f"The audio is cut off: its header declares {declared_s:.1f} s, and it has {samples.duration_s:.1f} s."
        )
    return samples


def _spoken(seconds: float) -> str:
    return f"{seconds / 3_600:g} hours" if seconds >= 7_200 else f"{seconds:g} s"


def audio_stream(container: InputContainer) -> AudioStream:
    """The audio stream to decode; raises `MediaUnreadable` when there is none in a supported codec."""
    if not container.streams.audio:
        if any(map(is_moving, container.streams.video)):
            raise MediaUnreadable("There is no audio in this file: it is a video without an audio track.")
        raise MediaUnreadable("There is no audio in this file.")
    best = container.streams.best("audio")
    stream = next((one for one in container.streams.audio if one is best), container.streams.audio[0])
    if decoder_of(stream) not in AUDIO_DECODERS:
        raise MediaUnreadable("The audio's codec is not supported; MP3, AAC, FLAC, Opus, Vorbis and PCM are.")
    if not MIN_SAMPLE_RATE <= stream.sample_rate <= MAX_SAMPLE_RATE or not 0 < stream.channels <= MAX_CHANNELS:
        raise damaged(AUDIO)
    return stream


class Mixer:
    """Converts samples to signed 16-bit at one channel layout and rate.

    It is also used before encoding: encoders of float samples hang on an infinite one.
    """

    def __init__(self, layout: str, sample_rate: int) -> None:
        self._layout = layout
        self._sample_rate = sample_rate
        self._resampler: AudioResampler | None = None
        self._shape: tuple[str, str, int] | None = None

    def mixed(self, frame: AudioFrame) -> list[AudioFrame]:
        """Converts a decoded frame; the result may lag behind."""
        import av

        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        before: list[AudioFrame] = []
        if self._resampler is None or shape != self._shape:
            # Some streams change in the middle: concatenated songs, MP3 that switches from stereo to mono.
            before = self.rest()
            self._resampler = av.AudioResampler(format="s16", layout=self._layout, rate=self._sample_rate)
            self._shape = shape
        frame.pts = None  # gaps in time would be filled with silence, also a gap of a year
        return before + self._resampler.resample(frame)

    def rest(self) -> list[AudioFrame]:
        """The samples that are still buffered."""
        resampler, self._resampler = self._resampler, None
        return resampler.resample(None) if resampler is not None else []


class _Samples:
    """The decoded samples, mixed to mono at one rate.

    Arguments:
        sample_rate: in Hz.
        max_s: the longest duration in seconds.
        too_long: the error text for more.
        n_encoded: the size of the file in bytes.

    Attributes: `encoded_rate`, the sample rate of the file in Hz.
    """

    def __init__(self, sample_rate: int, max_s: float, too_long: str, n_encoded: int) -> None:
        self.encoded_rate = sample_rate
        self._sample_rate = sample_rate
        self._n_encoded = n_encoded
        self._max_s = max_s
        self._too_long = too_long
        self._data = bytearray()
        self._next_allowed = _ALLOWED_STEP
        self._low, self._high = 32_767, -32_768
        self._mixer = Mixer("mono", sample_rate)

    @property
    def duration_s(self) -> float:
        """Seconds so far."""
        return len(self._data) / 2 / self._sample_rate

    @property
    def peak(self) -> float:
        """The largest amplitude so far, from 0 to 32768; 0 for a constant signal."""
        return (self._high - self._low) / 2

    def heard_s(self) -> float:
        """Seconds of the parts, of `PART_S` each, whose peak is not below `SILENCE_DBFS`."""
        import numpy as np

        samples = np.frombuffer(self._data, "<i2")
        size = round(self._sample_rate * PART_S)
        starts = np.arange(0, len(samples), size)
        if not len(starts):
            return 0.0
        swing = np.maximum.reduceat(samples, starts).astype(np.int32) - np.minimum.reduceat(samples, starts)
        return float(np.count_nonzero(swing >= 2 * _FULL_SCALE * 10 ** (SILENCE_DBFS / 20)) * PART_S)

    def add(self, frame: AudioFrame) -> None:
        """Adds a decoded frame; raises `MediaTooLarge` above the maximum duration."""
        self._take(self._mixer.mixed(frame))

    def end(self) -> None:
        """Adds the samples that are still buffered."""
        self._take(self._mixer.rest())

    def wav(self) -> bytes:
        """The samples as a WAV file."""
        import wave

        buffer = io.BytesIO()
        with wave.open(buffer, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(self._sample_rate)
            file.writeframes(self._data)
        return buffer.getvalue()

    def floats(self) -> Pending:
        """The samples as float32 in little-endian order, from -1 to 1."""
        import numpy as np

        def write(area: memoryview) -> None:
            np.multiply(np.frombuffer(self._data, "<i2"), np.float32(1 / 32_768), out=np.frombuffer(area, "<f4"))

        return Pending(2 * len(self._data), write)

    def _take(self, frames: list[AudioFrame]) -> None:
        for frame in frames:
            if not frame.samples:
                continue
            samples: Any = frame.to_ndarray()
            self._low = min(self._low, int(samples.min()))
            self._high = max(self._high, int(samples.max()))
            self._data += samples.tobytes()
        if self.duration_s > self._max_s + _ROUNDING_S:
            raise MediaTooLarge(self._too_long)
        if len(self._data) >= self._next_allowed:
            # The limit of memory grows with the samples, so that a small hostile file never gets that of a long one.
            self._next_allowed = len(self._data) + _ALLOWED_STEP
            allowance.allow(OPENING_BYTES + 4 * (self._n_encoded + self._next_allowed + _ALLOWED_STEP))


def _decode_into(samples: _Samples, container: InputContainer, stream: AudioStream, deadline: Deadline) -> None:
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
            samples.add(frame)
    deadline.check()
    samples.end()
    if bad_packets > _MAX_BAD_PACKETS + packets * _MAX_BAD_SHARE:
        raise damaged(AUDIO)


def _declared_s(container: InputContainer, stream: AudioStream, data: bytes, decoded_s: float) -> float | None:
    """The duration that the header declares; `None` where it declares none and FFmpeg would estimate it."""
    in_stream_s = float(stream.duration * stream.time_base) if stream.duration and stream.time_base else None
    match format_of(data):
        case "wav":
            present = 1 - missing_share(data)
            return decoded_s / present if present else None
        case "mov" | "aiff" | "flac":
            return in_stream_s
        case "mp3":
            start = start_of_stream(data)
            has_count = any(mark in data[start : start + 256] for mark in (b"Xing", b"Info", b"VBRI"))
            return in_stream_s if has_count else None
        case "matroska":
            # FFmpeg estimates the stream's duration when the file declares none.
            return container.duration / 1e6 if in_stream_s is None and container.duration else None
        case _:
            return None
