"""Opens audio and video so that FFmpeg reads only bytes in memory.

FFmpeg supports hundreds of formats. Some open other files and URLs (HLS, DASH, concat, SDP, image sequences), and many
have a history of memory errors. So the demuxer is chosen here from the first bytes, among a few. FFmpeg gets no file
name and no protocol, cannot open anything, and runs only decoders of common codecs.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from media.decoding.container_layout import bare_wav, is_one_format, is_well_formed_mp4
from media.errors import MediaError, MediaTooLarge, MediaUnreadable

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.stream import Stream

    from media.kinds import MediaKind

READABLE = "WAV, AIFF, MP3, AAC, FLAC, Ogg, MP4, M4A, MOV, WebM and Matroska"
_WIDTHS = ("s16", "s24", "s32", "f32", "f64")
_PCM = {
    f"pcm_{kind}"
    for kind in ("u8", "s8", "alaw", "mulaw", *(f"{width}{end}" for width in _WIDTHS for end in ("le", "be")))
}
AUDIO_DECODERS = frozenset(
    {"aac", "ac3", "alac", "amrnb", "amrwb", "eac3", "flac", "libopus", "opus", "vorbis"}
    | {"mp2", "mp2float", "mp3", "mp3float", "adpcm_ima_qt", "adpcm_ima_wav", "adpcm_ms"}
    | _PCM
)
VIDEO_DECODERS = frozenset({"av1", "h263", "h264", "hevc", "libdav1d", "mjpeg", "mpeg4", "theora", "vp8", "vp9"})
MAX_STREAMS = 32
OPENING_BYTES = 192 << 20
"""Memory for reading a container and detecting its streams, for which FFmpeg decodes the first frames. The tables of an
MP4 of one kilobyte may request gigabytes; such a file is rejected."""

_MP4_ATOMS = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp")
_MAX_PADDING = 65_536
_MAX_TAGS = 4


def format_of(data: bytes) -> str | None:
    """FFmpeg's name of the container format; `None` if it is not supported."""
    if data[:4] in (b"RIFF", b"RF64") and data[8:12] == b"WAVE":
        return "wav"
    if data[:4] == b"FORM" and data[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if data[:4] == b"OggS":
        return "ogg"
    if data[:4] == b"\x1aE\xdf\xa3":
        return "matroska"
    if data[4:8] in _MP4_ATOMS:
        return "mov"
    return _bare_stream_format(data, start_of_stream(data))


def start_of_stream(data: bytes) -> int:
    """The offset at which a bare stream (MP3, AAC, FLAC) begins: after ID3 tags and zeros."""
    start = 0
    for _ in range(_MAX_TAGS):
        if data[start : start + 3] != b"ID3" or start + 10 > len(data):
            break
        size = 0
        for byte in data[start + 6 : start + 10]:
            size = size << 7 | byte & 0x7F
        start += 10 + size
    head = data[start : start + _MAX_PADDING]
    return start + len(head) - len(head.lstrip(b"\0"))


def _bare_stream_format(data: bytes, start: int) -> str | None:
    if data[start : start + 4] == b"fLaC":
        return "flac"
    head = data[start : start + 2]
    if len(head) < 2 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    # MPEG's layer bits. Layer I is not supported: nobody uses it, and UTF-16 text looks like it.
    layer = head[1] >> 1 & 3
    if layer == 0:
        return "aac" if head[1] & 0xF0 == 0xF0 else None
    return "mp3" if layer in (1, 2) else None


class Deadline:
    """The time limit of decoding one file."""

    def __init__(self, timeout_s: float, noun: str) -> None:
        self.timeout_s = timeout_s
        self._noun = noun
        self._end = time.monotonic() + timeout_s

    def passed(self) -> bool:
        """Whether the time is up."""
        return time.monotonic() >= self._end

    def check(self) -> None:
        """Raises `MediaTooLarge` when the time is up."""
        if self.passed():
            raise MediaTooLarge(f"The {self._noun} takes more than {self.timeout_s:g} s to decode.")


@contextmanager
def opened(data: bytes, kind: MediaKind, deadline: Deadline, max_pixels: int = 1) -> Iterator[InputContainer]:
    """Opens audio or video for reading; exceptions of FFmpeg inside the block become media errors.

    `max_pixels` limits each video frame, also those that FFmpeg decodes to detect the streams. Only the process limits
    memory: untrusted files are opened in a child of the sandbox.

    Raises: `MediaUnreadable` or `MediaTooLarge`.
    """
    name = format_of(data)
    if name is None:
        raise MediaUnreadable(f"This is not {kind.noun} in a supported format; supported are {READABLE}.")
    if name == "wav":
        if not is_one_format(data):
            raise MediaUnreadable(
                f"This {kind.noun} is a concatenation of WAV files with different sample rates or formats. Join them "
                "with a tool that converts them, or send one."
            )
        data = bare_wav(data)
    elif name == "mov" and not is_well_formed_mp4(data):
        raise damaged(kind)
    import av

    av.logging.set_level(None)
    options = {
        "format_whitelist": name,
        "protocol_whitelist": "none",
        "codec_whitelist": ",".join(sorted(AUDIO_DECODERS | VIDEO_DECODERS)),
        "max_streams": str(MAX_STREAMS),
        "max_pixels": str(max_pixels),
    }
    try:
        with av.open(
            _TimedBytes(data, deadline),
            "r",
            format=name,
            options=options,
            # Tags are not used, but tags that are not UTF-8 would raise an error.
            metadata_errors="replace",
            timeout=deadline.timeout_s,
            io_open=_open_nothing,
        ) as container:
            yield container
    except MediaError:
        raise
    except MemoryError as error:
        raise MediaTooLarge(f"The {kind.noun} needs more memory to decode than is allowed for its size.") from error
    except Exception as error:
        # FFmpeg's error texts do not help the caller, and may contain internals.
        deadline.check()
        raise damaged(kind) from error


def damaged(kind: MediaKind) -> MediaUnreadable:
    """The error for a file whose header is valid and whose content is not."""
    return MediaUnreadable(f"The {kind.noun} is damaged or cut off, or in a rare format that is not supported.")


def is_moving(stream: Stream) -> bool:
    """Whether a video stream is a video and not the cover image of a song."""
    from av.stream import Disposition

    return not stream.disposition & Disposition.attached_pic


def decoder_of(stream: Any) -> str:
    """The name of the stream's decoder; empty if there is none."""
    context = stream.codec_context
    return str(context.codec.name) if context is not None else ""


class _TimedBytes(io.BytesIO):
    """Bytes that end at the deadline, so that no loop inside FFmpeg continues after it."""

    def __init__(self, data: bytes, deadline: Deadline) -> None:
        super().__init__(data)
        self._deadline = deadline

    def read(self, size: int | None = -1, /) -> bytes:
        """Reads like a file."""
        return b"" if self._deadline.passed() else super().read(size)


def _open_nothing(url: str, flags: int, options: dict[str, str]) -> Any:
    raise PermissionError("media files must not open other files")
