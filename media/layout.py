"""The outer layout of WAV and MP4 files, looked at before FFmpeg does.

In both, a size of four bytes that lies makes FFmpeg take gigabytes of memory for a file of a few kilobytes: it trusts
the sizes of tags as long as they fit into what surrounds them, and the outermost one into nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

# A compressed index: zlib may blow it up to gigabytes, and no program has written one for twenty years.
_COMPRESSED_INDEX = re.compile(rb"cmov.{4}dcom", re.DOTALL)
_MAX_CHUNKS = 1_000
_MAX_ATOMS = 100_000
_KEPT = (b"fmt ", b"fact")
_UNKNOWN_SIZE = 0x7FFF_0000  # programs that write WAV into a pipe leave about 2 or 4 GiB in place of the size
_MAX_PARTS = 1_000
_LONGEST_S = 3_600
"""A sound that declares more than the most that OMNI_MAX_AUDIO_S allows is not cut off: its length is made up."""
_ROUND = 100_000_000
_HEADER_SIZES = (0, 1, 8, 36, 44)
_HEAD = re.compile(rb"(?:RIFF|RF64).{4}WAVE(?:fmt |JUNK|bext|LIST|ds64)", re.DOTALL)


class WavPart(NamedTuple):
    """One sound of a WAV: its format and what else says how it is encoded, where its bytes are, and how many more its
    header declares."""

    format: bytes
    more: bytes
    start: int
    size: int
    n_missing: int


def bare_wav(data: bytes) -> bytes:
    """The same sound in a WAV without tags, cue points, lists and the like, whose sizes are right.

    Several WAVs of one format, one after another as tools leave them that join files by their bytes, become one. What
    is no WAV comes out as one without sound.
    """
    parts = list(_parts(data))
    if not parts:
        kept = b"".join(_chunk(name, data[at : at + size]) for name, at, size in _chunks(data, 0) if name in _KEPT)
        return _riff(kept + _chunk(b"data", b""))
    first = parts[0]
    head = first.format + (first.more if len(parts) == 1 else b"")
    same = (part for part in parts if part.format == first.format)
    return _riff(head + _chunk(b"data", b"".join(data[part.start : part.start + part.size] for part in same)))


def is_one_format(data: bytes) -> bool:
    """Whether all sounds of a WAV are of one format, so that `bare_wav` has all of them."""
    return len({part.format for part in _parts(data)}) <= 1


def missing_share(data: bytes) -> float:
    """How much of the sound that a WAV declares is not there, from 0 to 1; 0 where it does not know its own length."""
    parts = list(_parts(data))
    n_missing = sum(part.n_missing for part in parts)
    return n_missing / (n_missing + sum(part.size for part in parts)) if n_missing else 0.0


def _parts(data: bytes) -> Iterator[WavPart]:
    """The sounds of a WAV in their order: one, or several where files were joined by their bytes."""
    base = 0
    for _ in range(_MAX_PARTS):
        part = _part(data, base)
        if part is None:
            return
        yield part
        following = _HEAD.search(data, part.start + part.size)
        if following is None:
            return
        base = following.start()


def _part(data: bytes, base: int) -> WavPart | None:
    declared_64 = rate = 0
    form = more = b""
    for name, start, size in _chunks(data, base):
        if name == b"ds64":
            # RF64 has the sizes of files above 4 GiB here: of the file, of the sound.
            declared_64 = int.from_bytes(data[start + 8 : start + 16], "little")
        elif name == b"fmt ":
            form = _chunk(name, data[start : start + size])
            rate = int.from_bytes(data[start + 8 : start + 12], "little")
        elif name in _KEPT:
            more += _chunk(name, data[start : start + size])
        elif name == b"data":
            declared = declared_64 or int.from_bytes(data[start - 4 : start], "little")
            if _is_made_up(declared, rate) if declared > size else not declared and _is_open(data, base, start):
                declared = size = _until_next(data, start)
            return WavPart(form, more, start, size, max(0, declared - size))
    return None


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


def _is_made_up(declared: int, rate: int) -> bool:
    """Whether a length that is more than there is is none at all: about 2 or 4 GiB, hours, or a round number, which a
    sound that was cut off has not.

    Arguments: the length in bytes; bytes a second.
    """
    is_power = any((declared + n).bit_count() == 1 for n in _HEADER_SIZES)
    return (
        _UNKNOWN_SIZE <= declared < 1 << 32
        or (declared > _ROUND and (is_power or declared % _ROUND == 0))
        or (rate > 0 and declared > rate * _LONGEST_S)
    )


def _is_open(data: bytes, base: int, start: int) -> bool:
    """Whether a WAV whose sound has the length 0 was begun and its header never completed: it ends with the header, or
    says nothing of its own length."""
    size = int.from_bytes(data[base + 4 : base + 8], "little")
    return size == 0 or size >= _UNKNOWN_SIZE or base + 8 + size <= start


def _until_next(data: bytes, start: int) -> int:
    """How long a sound of unknown length is: to the next WAV behind it, or to the end."""
    found = _HEAD.search(data, start)
    return (found.start() if found else len(data)) - start


def _chunks(data: bytes, base: int) -> Iterator[tuple[bytes, int, int]]:
    """The chunks of the WAV that begins there: name, where its content begins, and how much of it is there."""
    position = base + 12
    for _ in range(_MAX_CHUNKS):
        start = position + 8
        if start > len(data):
            return
        name, size = data[position : position + 4], int.from_bytes(data[position + 4 : start], "little")
        yield name, start, min(size, len(data) - start)
        position = start + size + size % 2


def _riff(chunks: bytes) -> bytes:
    body = b"WAVE" + chunks
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + len(content).to_bytes(4, "little") + content + bytes(len(content) % 2)
