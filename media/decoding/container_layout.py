"""Checks and repairs the chunk layout of WAV and MP4 files before FFmpeg reads them.

In both, one wrong size field makes FFmpeg allocate gigabytes for a file of a few kilobytes: it checks the sizes of
inner chunks against the outer ones, and the outermost against nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

# A compressed index may expand to gigabytes, and no program has written one for twenty years.
_COMPRESSED_INDEX = re.compile(rb"cmov.{4}dcom", re.DOTALL)
_MAX_CHUNKS = 1_000
_MAX_ATOMS = 100_000
_KEPT = (b"fmt ", b"fact")
_UNKNOWN_SIZE = 0x7FFF_0000  # programs that write WAV to a pipe declare about 2 or 4 GiB
_MAX_PARTS = 1_000
_MAX_DECLARED_S = 3_600
"""The maximum of OMNI_MAX_AUDIO_S. A longer declared duration is a placeholder; the audio is not cut off."""
_ROUND = 100_000_000
_HEADER_SIZES = (0, 1, 8, 36, 44)
_HEAD = re.compile(rb"(?:RIFF|RF64).{4}WAVE(?:fmt |JUNK|bext|LIST|ds64)", re.DOTALL)


class WavPart(NamedTuple):
    """The audio of one WAV file within the data.

    `format` and `fact` are chunks, `start` and `size` say where the samples are, and `n_missing` is how many more bytes
    the header declares.
    """

    format: bytes
    fact: bytes
    start: int
    size: int
    n_missing: int


def bare_wav(data: bytes) -> bytes:
    """The same audio as a WAV file without tags, cue points and lists, and with correct sizes.

    Concatenated WAV files of one format become one file. Data that is not WAV becomes a file without samples.
    """
    parts = list(_parts(data))
    if not parts:
        kept = b"".join(_chunk(name, data[at : at + size]) for name, at, size in _chunks(data, 0) if name in _KEPT)
        return _riff(kept + _chunk(b"data", b""))
    first = parts[0]
    head = first.format + (first.fact if len(parts) == 1 else b"")
    same = (part for part in parts if part.format == first.format)
    return _riff(head + _chunk(b"data", b"".join(data[part.start : part.start + part.size] for part in same)))


def is_one_format(data: bytes) -> bool:
    """Whether all concatenated WAV files have one format, so that `bare_wav` keeps all of them."""
    return len({part.format for part in _parts(data)}) <= 1


def missing_share(data: bytes) -> float:
    """The share of the declared audio that is missing, from 0 to 1; 0 where the header declares no length."""
    parts = list(_parts(data))
    n_missing = sum(part.n_missing for part in parts)
    return n_missing / (n_missing + sum(part.size for part in parts)) if n_missing else 0.0


def _parts(data: bytes) -> Iterator[WavPart]:
    """The concatenated WAV files in order; usually one."""
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
    form = fact = b""
    for name, start, size in _chunks(data, base):
        if name == b"ds64":
            # RF64 stores the sizes of files above 4 GiB here: of the file, then of the data chunk.
            declared_64 = int.from_bytes(data[start + 8 : start + 16], "little")
        elif name == b"fmt ":
            form = _chunk(name, data[start : start + size])
            rate = int.from_bytes(data[start + 8 : start + 12], "little")
        elif name in _KEPT:
            fact += _chunk(name, data[start : start + size])
        elif name == b"data":
            declared = declared_64 or int.from_bytes(data[start - 4 : start], "little")
            if _is_placeholder(declared, rate) if declared > size else not declared and _is_open(data, base, start):
                declared = size = _until_next(data, start)
            return WavPart(form, fact, start, size, max(0, declared - size))
    return None


def is_well_formed_mp4(data: bytes) -> bool:
    """Whether the outermost MP4 atoms, except `mdat`, lie inside the file, and the index is not compressed."""
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


def _is_placeholder(declared: int, rate: int) -> bool:
    """Whether a declared length beyond the end of the file is a placeholder: 2 or 4 GiB, hours, or a round number.

    Arguments:
        declared: bytes.
        rate: bytes per second.
    """
    is_power = any((declared + n).bit_count() == 1 for n in _HEADER_SIZES)
    return (
        _UNKNOWN_SIZE <= declared < 1 << 32
        or (declared > _ROUND and (is_power or declared % _ROUND == 0))
        or (rate > 0 and declared > rate * _MAX_DECLARED_S)
    )


def _is_open(data: bytes, base: int, start: int) -> bool:
    """Whether a data chunk of length 0 means that the header was never completed: the RIFF size is missing or ends with
    the header."""
    size = int.from_bytes(data[base + 4 : base + 8], "little")
    return size == 0 or size >= _UNKNOWN_SIZE or base + 8 + size <= start


def _until_next(data: bytes, start: int) -> int:
    """The size of a data chunk of unknown length: up to the next WAV file or the end."""
    found = _HEAD.search(data, start)
    return (found.start() if found else len(data)) - start


def _chunks(data: bytes, base: int) -> Iterator[tuple[bytes, int, int]]:
    """The chunks of the WAV file at `base`: name, start of the content, and how many bytes of it are present."""
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
