"""The outer layout of WAV and MP4 files, looked at before FFmpeg does.

In both, a size of four bytes that lies makes FFmpeg take gigabytes of memory for a file of a few kilobytes: it trusts
the sizes of tags as long as they fit into what surrounds them, and the outermost one into nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# A compressed index: zlib may blow it up to gigabytes, and no program has written one for twenty years.
_COMPRESSED_INDEX = re.compile(rb"cmov.{4}dcom", re.DOTALL)
_MAX_CHUNKS = 1_000
_MAX_ATOMS = 100_000
_KEPT = (b"fmt ", b"fact")
_UNKNOWN_SIZE = 0x7FFF_0000  # programs that write WAV into a pipe leave about 2 or 4 GiB in place of the size


def bare_wav(data: bytes) -> bytes:
    """The same sound in a WAV without tags, cue points, lists and the like, whose sizes are right.

    What is no WAV comes out as one without sound.
    """
    head = b"WAVE"
    sound = b""
    for name, start, size in _chunks(data):
        if name == b"data":
            sound = data[start : start + size]
            break
        if name in _KEPT:
            head += _chunk(name, data[start : start + size])
    body = head + _chunk(b"data", sound)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def missing_share(data: bytes) -> float:
    """How much of the sound that a WAV declares is not there, from 0 to 1; 0 where it does not know its own length."""
    declared_64 = 0
    for name, start, size in _chunks(data):
        if name == b"ds64":
            # RF64 has the sizes of files above 4 GiB here: of the file, of the sound.
            declared_64 = int.from_bytes(data[start + 8 : start + 16], "little")
        if name == b"data":
            declared = declared_64 or int.from_bytes(data[start - 4 : start], "little")
            is_known = declared < _UNKNOWN_SIZE or declared_64
            return max(0.0, 1 - size / declared) if declared and is_known else 0.0
    return 0.0


def is_sound_mp4(data: bytes) -> bool:
    """Whether the outermost parts of an MP4 lie inside of the file, but for its frames, and its index is plain."""
    position = atoms = 0
    while position + 8 <= len(data):
        size, header = int.from_bytes(data[position : position + 4]), 8
        name = data[position + 4 : position + 8]
        if size == 1:
            size, header = int.from_bytes(data[position + 8 : position + 16]), 16
        elif size == 0:
            size = len(data) - position
        atoms += 1
        if size < header or atoms > _MAX_ATOMS:
            return False
        position += size
        if position > len(data) and name != b"mdat":
            return False
    return not _COMPRESSED_INDEX.search(data)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The chunks of a WAV: name, where its content begins, and how much of it is there."""
    riff_size = int.from_bytes(data[4:8], "little")
    is_streamed = riff_size == 0 or riff_size >= _UNKNOWN_SIZE
    position = 12
    for _ in range(_MAX_CHUNKS):
        start = position + 8
        if start > len(data):
            return
        name, size = data[position : position + 4], int.from_bytes(data[position + 4 : start], "little")
        left = len(data) - start
        yield name, start, left if is_streamed and name == b"data" and not size else min(size, left)
        position = start + size + size % 2


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + len(content).to_bytes(4, "little") + content + bytes(len(content) % 2)
