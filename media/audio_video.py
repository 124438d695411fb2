"""Reads audio and video from paths, URLs, data URLs and base64."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from media.call_limits import NO_LIMITS, CallLimits
from media.decoding.audio import MAX_SPEECH_S, SAMPLE_RATE
from media.decoding.containers import format_of
from media.decoding.frames import MAX_FRAMES
from media.kinds import AUDIO, VIDEO
from media.source import MediaSource

if TYPE_CHECKING:
    from media.decoder import Decoder
    from media.decoding.audio import DecodedAudio
    from media.decoding.frames import VideoFrames
    from media.decoding.video import Clip
    from media.network.downloads import TlsContext
    from settings import MediaSettings

_MIME_TYPES = {"mov": "video/mp4", "matroska": "video/webm", "ogg": "video/ogg"}


@dataclass(frozen=True, slots=True)
class SpeechAudio:
    """Decoded audio for a model: mono at 16,000 Hz, as float32 in little-endian order, from -1 to 1.

    `digest` is a SHA-256 over the encoded file and how it was decoded, as for images.
    """

    samples: bytes
    duration_s: float
    digest: str

    @property
    def n_bytes(self) -> int:
        """Size of the samples in memory."""
        return len(self.samples)


class AudioReader:
    """Reads audio within the limits of the settings. Any thread may call it.

    All methods raise `MediaNotFound`, `MediaForbidden`, `MediaTooLarge`, `MediaUnreadable` or `MediaCancelled`.
    """

    def __init__(self, settings: MediaSettings, decoder: Decoder, tls_context: TlsContext | None = None) -> None:
        self._max_s = settings.max_audio_s
        self._decoder = decoder
        self._source = MediaSource(AUDIO, settings.max_media_bytes, settings, tls_context)

    def read(self, reference: str, limits: CallLimits = NO_LIMITS, *, sample_rate: int = SAMPLE_RATE) -> DecodedAudio:
        """Reads a URL if the text begins like one, else a path; the result has `sample_rate` in Hz."""
        return self._decoder.audio(self._source.read(reference, limits), self._max_s, limits, sample_rate)

    def samples(self, reference: str, limits: CallLimits = NO_LIMITS, *, max_s: float = MAX_SPEECH_S) -> SpeechAudio:
        """Reads what a model hears, from a URL if the text begins like one, else from a path; it may be silent.

        Arguments:
            reference: the path or URL of an audio file, or of a video whose audio track is taken.
            limits: what ends the reading early.
            max_s: longer audio is refused.
        """
        return self._speech(self._source.read(reference, limits), limits, max_s)

    def samples_base64(
        self, data: str, mime_type: str | None, limits: CallLimits = NO_LIMITS, *, max_s: float = MAX_SPEECH_S
    ) -> SpeechAudio:
        """Reads base64 text or a data URL like `samples`; a MIME type of another kind of media is an error."""
        return self._speech(self._source.read_base64(data, mime_type), limits, max_s)

    def _speech(self, data: bytes, limits: CallLimits, max_s: float) -> SpeechAudio:
        hashed = hashlib.sha256(b"mono 16000 ")
        hashed.update(data)
        samples, duration_s = self._decoder.speech(data, max_s, limits)
        return SpeechAudio(samples, duration_s, hashed.hexdigest())


class VideoReader:
    """Reads video within the limits of the settings. Any thread may call it.

    All methods raise `MediaNotFound`, `MediaForbidden`, `MediaTooLarge`, `MediaUnreadable` or `MediaCancelled`.
    """

    def __init__(self, settings: MediaSettings, decoder: Decoder, tls_context: TlsContext | None = None) -> None:
        self._max_pixels = settings.max_image_pixels
        self._decoder = decoder
        self._source = MediaSource(VIDEO, settings.max_media_bytes, settings, tls_context)

    def read(self, reference: str, limits: CallLimits = NO_LIMITS) -> Clip:
        """Reads a URL if the text begins like one, else a path."""
        return self._decoder.clip(self._source.read(reference, limits), self._max_pixels, limits)

    def frames(
        self,
        reference: str,
        max_frames: int,
        start_s: float | None = None,
        end_s: float | None = None,
        limits: CallLimits = NO_LIMITS,
    ) -> VideoFrames:
        """Reads up to `max_frames` frames that are spread evenly over a span, as `frames.sample_frames` describes.

        Arguments:
            reference: a URL if the text begins like one, else a path.
            max_frames: 1 to `media.decoding.frames.MAX_FRAMES`.
            start_s: where the span begins, in seconds from the first frame; `None` for the beginning.
            end_s: where it ends; `None` for the end of the video.
            limits: end the read early.

        Raises: as all methods; `ValueError` for a number of frames or a span that no video has.
        """
        start_s = start_s or 0.0
        if not 1 <= max_frames <= MAX_FRAMES or start_s < 0 or (end_s is not None and end_s <= start_s):
            raise ValueError(f"{max_frames} frames from {start_s} to {end_s} s")
        data = self._source.read(reference, limits)
        return self._decoder.frames(data, max_frames, self._max_pixels, start_s, end_s, limits)

    def read_file(self, path: str, limits: CallLimits = NO_LIMITS) -> tuple[Clip, bytes, str]:
        """Reads a file; returns the clip, its bytes and their MIME type."""
        data = self._source.read_path(path)
        clip = self._decoder.clip(data, self._max_pixels, limits)
        return clip, data, _MIME_TYPES.get(format_of(data) or "", "video/mp4")
