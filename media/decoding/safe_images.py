"""Detects images whose layout is certainly harmless, so that they are decoded without a child process.

A baseline JPEG with one scan and a PNG take time and memory in proportion to their pixels, whatever the bytes are.
Metadata is removed before decoding: EXIF data of 64 KB can expand to gigabytes of overlapping values. All other images,
and all doubtful ones, are decoded in a child.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MAX_METADATA_BYTES = 64 << 10
MAX_SEGMENTS = 64
MAX_EXIF_ENTRIES = 200
MAX_ROWS = 65_535
"""The maximum height of a JPEG. A PNG may have a million times as many rows of one pixel, and each row costs about 20
bytes and 0.1 µs."""

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_HEIGHT = slice(20, 24)
_MAX_CHUNKS = 64
_MIN_CHUNK_BYTES = 1_024
"""A PNG may have `_MAX_CHUNKS` chunks, and one more per this many bytes: each chunk takes time."""
_KEPT_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_DROPPED_CHUNKS = b"pHYs sRGB gAMA cHRM tIME bKGD sBIT hIST tEXt iTXt iCCP cICP".split()
"""Chunks that do not affect the decoded pixels, except for the texts below."""
_EXIF_TEXTS = (b"Raw profile", b"XML:")
"""The beginning of texts that may contain EXIF data."""

_APP0, _APP1, _APP14, _APP15, _COMMENT = 0xE0, 0xE1, 0xEE, 0xEF, 0xFE
_DHT, _DQT, _DRI, _SOF0, _SOS = 0xC4, 0xDB, 0xDD, 0xC0, 0xDA
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]")
"""A marker in a scan that is neither a data byte nor a restart marker. Padding counts as a marker: an incremental
decoder reads megabytes of it again with each block."""
_END = b"\xff\xd9"
_ORIENTATION, _SHORT = 0x0112, 3


class SafeImage(NamedTuple):
    """An image file without metadata, and its EXIF orientation (1 to 8)."""

    data: bytes
    orientation: int


def safe_image(data: bytes) -> SafeImage | None:
    """The image without metadata; `None` where it is not certainly harmless."""
    if data.startswith(_PNG):
        return _plain_png(data)
    return _plain_jpeg(data) if data.startswith(b"\xff\xd8\xff") else None


def _plain_png(data: bytes) -> SafeImage | None:
    """A PNG of the chunks that Pillow needs for the pixels."""
    kept = [_PNG]
    names: list[bytes] = []
    position, dropped = len(_PNG), 0
    begin = position
    max_chunks = _MAX_CHUNKS + len(data) // _MIN_CHUNK_BYTES
    while True:
        size, name = int.from_bytes(data[position : position + 4]), data[position + 4 : position + 8]
        end = position + 12 + size
        if end > len(data) or len(names) >= max_chunks:
            return None
        names.append(name)
        if name in _DROPPED_CHUNKS:
            dropped += size
            if dropped > MAX_METADATA_BYTES or data.startswith(_EXIF_TEXTS, position + 8):
                return None
            kept.append(data[begin:position])
            begin = end
        elif name not in _KEPT_CHUNKS:
            return None
        position = end
        if name == b"IEND":
            break
    if not _has_order(names) or int.from_bytes(data[_PNG_HEIGHT]) > MAX_ROWS:
        return None
    if begin == len(_PNG) and position == len(data):
        return SafeImage(data, 1)
    kept.append(data[begin:position])
    return SafeImage(b"".join(kept), 1)


def _has_order(names: list[bytes]) -> bool:
    """Whether each chunk that may occur once does, in the right order, and the pixel chunks follow each other."""
    essential = [name for name in names if name in _KEPT_CHUNKS]
    n_pixel_chunks = essential.count(b"IDAT")
    head = [name for name in essential if name != b"IDAT"]
    if head not in (
        [b"IHDR", b"IEND"],
        [b"IHDR", b"PLTE", b"IEND"],
        [b"IHDR", b"tRNS", b"IEND"],
        [b"IHDR", b"PLTE", b"tRNS", b"IEND"],
    ):
        return False
    return (
        n_pixel_chunks > 0
        and names[0] == b"IHDR"
        and essential[-1 - n_pixel_chunks : -1].count(b"IDAT") == (n_pixel_chunks)
    )


def _plain_jpeg(data: bytes) -> SafeImage | None:
    """A baseline JPEG with one scan for all its components."""
    kept, orientation = [data[:2]], 1
    n_components = n_frames = n_exif = metadata = 0
    position = 2
    for _ in range(MAX_SEGMENTS):
        marker, size = data[position + 1 : position + 2], int.from_bytes(data[position + 2 : position + 4])
        end = position + 2 + size
        if data[position : position + 1] != b"\xff" or not marker or size < 2 or end > len(data):
            return None
        code, body = marker[0], data[position + 4 : end]
        metadata += size
        if metadata > MAX_METADATA_BYTES:
            return None
        if code == _SOF0:
            n_frames, n_components = n_frames + 1, body[5] if len(body) > 5 else 0
        elif code == _APP1:
            found = _orientation(body)
            n_exif += body.startswith(b"Exif\0\0")
            if found is None or n_exif > 1:
                return None
            orientation = max(orientation, found)
        if code in (_SOF0, _DHT, _DQT, _DRI, _SOS, _APP14) or (code == _APP0 and body.startswith(b"JFIF\0")):
            kept.append(data[position:end])
        elif not _APP0 <= code <= _APP15 and code != _COMMENT:
            return None
        position = end
        if code == _SOS:
            last = _MARKER.search(data, position)
            is_whole = last is not None and last.group() == _END
            if not is_whole or last is None or n_frames != 1 or not n_components or body[:1] != bytes([n_components]):
                return None
            kept.append(data[position : last.end()])
            return SafeImage(b"".join(kept), orientation)
    return None


def _orientation(body: bytes) -> int | None:
    """The orientation in the content of an APP1 segment; `None` where it is doubtful."""
    if not body.startswith(b"Exif\0\0"):
        # Adobe's XMP in this segment may declare an orientation too.
        return None if b"rientation" in body else 1
    exif = body[6:]
    if exif[:4] not in (b"II*\0", b"MM\0*"):
        return None

    def number(position: int, n_bytes: int) -> int:
        return int.from_bytes(exif[position : position + n_bytes], "little" if exif[:1] == b"I" else "big")

    start = number(4, 4)
    n_entries = number(start, 2)
    if start + 2 + 12 * n_entries > len(exif) or n_entries > MAX_EXIF_ENTRIES:
        return None
    found = 1
    for entry in range(start + 2, start + 2 + 12 * n_entries, 12):
        if number(entry, 2) == _ORIENTATION:
            if number(entry + 2, 2) != _SHORT or number(entry + 4, 4) != 1 or found != 1:
                return None
            found = number(entry + 8, 2)
    return found if 1 <= found <= 8 else 1
