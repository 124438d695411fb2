"""Any reference to sound or film, read within the limits of the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from media.call_limits import NO_LIMITS, CallLimits
from media.containers import format_of
from media.kinds import AUDIO, VIDEO
from media.source import MediaSource

if TYPE_CHECKING:
    from media.audio import DecodedAudio
    from media.decoder import Decoder
    from media.network import TlsContext
    from media.video import Clip
    from settings import MediaSettings

_MIME_TYPES = {"mov": "video/mp4", "matroska": "video/webm", "ogg": "video/ogg"}


class AudioReader:
    """Reads sound within the limits of the settings. Any thread may call it.

    All methods raise `MediaNotFound`, `MediaForbidden`, `MediaTooLarge`, `MediaUnreadable` or `MediaCancelled`.
    """

    def __init__(self, settings: MediaSettings, decoder: Decoder, tls_context: TlsContext | None = None) -> None:
        self._max_s = settings.max_audio_s
        self._decoder = decoder
        self._source = MediaSource(
            AUDIO, settings.max_audio_bytes, settings.video_fetch_timeout_s, settings, tls_context
        )

    def read(self, reference: str, limits: CallLimits = NO_LIMITS) -> DecodedAudio:
        """Reads what a caller may write in one string: a URL if it begins like one, else a path."""
        return self._decoder.audio(self._source.read(reference, limits), self._max_s, limits)


class VideoReader:
    """Reads clips within the limits of the settings. Any thread may call it.

    All methods raise `MediaNotFound`, `MediaForbidden`, `MediaTooLarge`, `MediaUnreadable` or `MediaCancelled`.
    """

    def __init__(self, settings: MediaSettings, decoder: Decoder, tls_context: TlsContext | None = None) -> None:
        self._max_pixels = settings.max_image_pixels
        self._decoder = decoder
        self._source = MediaSource(
            VIDEO, settings.max_video_bytes, settings.video_fetch_timeout_s, settings, tls_context
        )

    def read(self, reference: str, limits: CallLimits = NO_LIMITS) -> Clip:
        """Reads what a caller may write in one string: a URL if it begins like one, else a path."""
        return self._decoder.clip(self._source.read(reference, limits), self._max_pixels, limits)

    def read_file(self, path: str, limits: CallLimits = NO_LIMITS) -> tuple[Clip, bytes, str]:
        """Reads a file; the clip with its bytes as they are, and their MIME type."""
        data = self._source.read_path(path)
        clip = self._decoder.clip(data, self._max_pixels, limits)
        return clip, data, _MIME_TYPES.get(format_of(data) or "", "video/mp4")
