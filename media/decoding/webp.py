"""Reads the size of a WebP image from its first bytes.

Pillow allocates the memory for all pixels when it opens a WebP file, before its size can be checked.
"""

from __future__ import annotations


def canvas_size(data: bytes | memoryview) -> tuple[int, int] | None:
    """The declared width and height in pixels; `None` if the data is not WebP."""
    head = bytes(data[:30])
    if len(head) < 30 or head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        return None
    kind = head[12:16]
    if kind == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    return None
