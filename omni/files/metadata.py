"""The parameters of an image or video inside its file, in PNG chunks or an MP4 box that viewers ignore."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Mapping
from typing import BinaryIO

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
SOFTWARE = "vllm-mcp-server"
_AFTER_HEADER = len(PNG_SIGNATURE) + 25
"""The position of the second chunk: IHDR is always first and always 25 bytes long."""


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


_PNG_MARK = _chunk(b"tEXt", b"Software\0" + SOFTWARE.encode("ascii"))
_MP4_MARK = SOFTWARE.encode("ascii")
_MP4_KIND = bytes.fromhex("5f0c6a2e4d1b4b0f9a3e7c1d8b2f6e90")
"""The UUID of our box."""
_PARAMETERS = b"parameters" + bytes(5)
"""How the data of our iTXt chunk begins."""
MAX_TEXT_BYTES = 1 << 19
"""Two texts of 20,000 characters take at most half of it in JSON."""


def png_size(data: bytes) -> tuple[int, int]:
    """Width and height of a PNG file in pixels."""
    width, height = struct.unpack_from(">II", data, len(PNG_SIGNATURE) + 8)
    return width, height


def with_png_text(data: bytes, texts: Mapping[str, str]) -> bytes:
    """The same image with our mark and texts (keyword to text) after its header."""
    # iTXt: keyword, not compressed, no language, no translated keyword, text in UTF-8.
    chunks = [_chunk(b"iTXt", key.encode("latin-1") + b"\0\0\0\0\0" + text.encode()) for key, text in texts.items()]
    return b"".join((data[:_AFTER_HEADER], _PNG_MARK, *chunks, data[_AFTER_HEADER:]))


def with_mp4_text(data: bytes, text: str) -> bytes:
    """The same video with a text and our mark appended."""
    body = _MP4_KIND + text.encode() + _MP4_MARK
    return data + struct.pack(">I", len(body) + 8) + b"uuid" + body


def is_ours(file: BinaryIO) -> bool:
    """Whether this server wrote an open PNG or MP4 file, by the mark in it."""
    head = file.read(_AFTER_HEADER + len(_PNG_MARK))
    if head[4:8] != b"ftyp":
        return head.startswith(PNG_SIGNATURE) and head.endswith(_PNG_MARK)
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - len(_MP4_MARK)))
    return file.read() == _MP4_MARK


def parameters_text(file: BinaryIO) -> bytes | None:
    """The JSON with the parameters in an open file that this server wrote; `None` if it has none, or they are damaged.

    Reads at most `MAX_TEXT_BYTES` and the chunks' headers.
    """
    file.seek(0)
    if file.read(8)[4:] == b"ftyp":
        return _mp4_text(file)
    file.seek(_AFTER_HEADER + len(_PNG_MARK))
    header = file.read(8)
    size = int.from_bytes(header[:4])
    if header[4:] != b"iTXt" or size > MAX_TEXT_BYTES:
        return None
    data = file.read(size)
    is_whole = file.read(4) == struct.pack(">I", zlib.crc32(b"iTXt" + data))
    return data.removeprefix(_PARAMETERS) if is_whole and data.startswith(_PARAMETERS) else None


def _mp4_text(file: BinaryIO) -> bytes | None:
    """The text of our box, which is the last one: its size tells that the bytes of its UUID begin it."""
    n_bytes = file.seek(0, os.SEEK_END)
    file.seek(max(0, n_bytes - MAX_TEXT_BYTES))
    tail = file.read(MAX_TEXT_BYTES)
    begin = tail.rfind(b"uuid" + _MP4_KIND) - 4
    if begin < 0 or int.from_bytes(tail[begin : begin + 4]) != len(tail) - begin or not tail.endswith(_MP4_MARK):
        return None
    return tail[begin + 8 + len(_MP4_KIND) : -len(_MP4_MARK)]
