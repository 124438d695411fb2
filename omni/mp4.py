"""Text in MP4 files: what a video was made from travels with it, in a box at the end that every player passes over."""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

from omni.png import SOFTWARE

_MARK = SOFTWARE.encode("ascii")
_KIND = bytes.fromhex("5f0c6a2e4d1b4b0f9a3e7c1d8b2f6e90")
"""A box of the type uuid is whatever the owner of this number says; nobody else has it."""


def with_text(data: bytes, text: str) -> bytes:
    """The same video with our mark and a text behind it."""
    body = _KIND + text.encode() + _MARK
    return data + struct.pack(">I", len(body) + 8) + b"uuid" + body


def is_ours(file: BinaryIO) -> bool:
    """Whether an open file is an MP4 that this server wrote."""
    head = file.read(8)
    if head[4:] != b"ftyp":
        return False
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - len(_MARK)))
    return file.read() == _MARK
