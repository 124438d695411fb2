"""Text in PNG files: what a picture was made from travels with it, in chunks that every viewer passes over.

Chunks are put in as bytes, without decoding and encoding the pixels again.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
SOFTWARE = "vllm-mcp-server"
_AFTER_HEADER = len(SIGNATURE) + 25
"""Where the second chunk begins: behind the signature and IHDR, which is always 25 bytes long and always first."""


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


_MARK = _chunk(b"tEXt", b"Software\0" + SOFTWARE.encode("ascii"))


def size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels of a picture in this format."""
    width, height = struct.unpack_from(">II", data, len(SIGNATURE) + 8)
    return width, height


def with_text(data: bytes, texts: Mapping[str, str]) -> bytes:
    """The same picture with our mark and these texts (keyword to text) behind its header."""
    # iTXt: keyword, not compressed, no language, no translated keyword, text in UTF-8.
    chunks = [_chunk(b"iTXt", key.encode("latin-1") + b"\0\0\0\0\0" + text.encode()) for key, text in texts.items()]
    return b"".join((data[:_AFTER_HEADER], _MARK, *chunks, data[_AFTER_HEADER:]))


def is_ours(file: BinaryIO) -> bool:
    """Whether an open file is a PNG that this server wrote."""
    head = file.read(_AFTER_HEADER + len(_MARK))
    return head.startswith(SIGNATURE) and head.endswith(_MARK)
