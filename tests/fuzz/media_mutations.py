"""Media files changed by their structure: boxes, tags, segments, chunks and elements rather than bytes alone.

A mutation keeps the outer layout of a file readable, so that the file reaches the code behind the headers.
"""

from __future__ import annotations

import random
import re
import struct
import zlib
from collections.abc import Callable

CONTAINERS = tuple(b"moov trak mdia minf stbl dinf edts mvex moof traf udta ilst mfra".split())
TABLES = (b"stsz", b"stts", b"ctts", b"stco", b"co64", b"stsc", b"stss", b"sbgp", b"sgpd", b"trun", b"sidx", b"saiz")
MORE_TABLES = (b"saio", b"keys", b"elst", b"stz2", b"cslg", b"tfra", b"stsd", b"tkhd", b"mdhd", b"hdlr", b"esds")
NUMBERS = (
    0,
    1,
    2,
    255,
    256,
    65_535,
    1 << 16,
    1 << 20,
    30_000_000,
    1 << 28,
    1 << 30,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
)
MAX_CHANGES = 4
MAX_BYTES = 4 << 20

_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]")

Piece = tuple[bytes, bytes]
"""A name and what is in it."""


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The file with a few changes. Its type is detected from its first bytes."""
    changed = _by_structure(data)
    for _ in range(chance.randint(1, MAX_CHANGES)):
        change = changed if changed is not None and chance.random() < 0.9 else _bytes
        try:
            data = change(data, chance)
        except (struct.error, ValueError, IndexError):
            data = _bytes(data, chance)
    return data[:MAX_BYTES]


def _by_structure(data: bytes) -> Callable[[bytes, random.Random], bytes] | None:
    if data[4:8] in (b"ftyp", b"moov", b"styp"):
        return _boxes
    if data[:4] in (b"II*\0", b"MM\0*"):
        return _tags
    if data[:2] == b"\xff\xd8":
        return _segments
    if data[:4] == b"\x89PNG":
        return _chunks
    if data[:4] == b"\x1aE\xdf\xa3":
        return _elements
    if data[:4] in (b"RIFF", b"FORM"):
        return _riff
    return None


def _number(chance: random.Random, n_bytes: int) -> bytes:
    """A number of that many bytes, often a value at a limit that code forgets."""
    value = chance.choice(NUMBERS) if chance.random() < 0.8 else chance.getrandbits(8 * n_bytes)
    return (value % (1 << 8 * n_bytes)).to_bytes(n_bytes, chance.choice(("big", "little")))


def _with_number(body: bytes, chance: random.Random) -> bytes:
    size = min(chance.choice((1, 2, 4, 4, 4, 8)), len(body))
    if not size:
        return _number(chance, 4)
    at = chance.randrange(0, max(1, min(len(body) - size + 1, 200)))
    if size >= 4 and chance.random() < 0.7:
        at -= at % 4
    return body[:at] + _number(chance, size) + body[at + size :]


def _bytes(data: bytes, chance: random.Random) -> bytes:
    """A change that knows nothing of the layout."""
    if not data:
        return _number(chance, 4)
    at = chance.randrange(len(data))
    match chance.randrange(4):
        case 0:
            return data[:at]
        case 1:
            return data[:at] + _number(chance, 4) + data[at + 4 :]
        case 2:
            end = min(len(data), at + chance.randint(1, 2_000))
            return data[:end] + data[at:end] * chance.randint(1, 50) + data[end:]
        case _:
            return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def _pieces_changed(pieces: list[Piece], chance: random.Random, names: tuple[bytes, ...]) -> list[Piece]:
    """One piece changed, doubled, removed, moved, renamed or inserted."""
    if not pieces:
        return [(chance.choice(names), _number(chance, 4) * chance.randint(1, 50))]
    at = chance.randrange(len(pieces))
    name, body = pieces[at]
    match chance.randrange(8):
        case 0:
            return pieces[:at] + pieces[at + 1 :]
        case 1:
            return pieces[:at] + [pieces[at]] * chance.choice((2, 3, 20, 200)) + pieces[at + 1 :]
        case 2:
            pieces = list(pieces)
            other = chance.randrange(len(pieces))
            pieces[at], pieces[other] = pieces[other], pieces[at]
            return pieces
        case 3:
            return [*pieces[:at], (chance.choice(names), body), *pieces[at + 1 :]]
        case 4:
            made = (chance.choice(names), _number(chance, 4) * chance.randint(0, 20))
            return [*pieces[:at], made, *pieces[at:]]
        case _:
            return [*pieces[:at], (name, _with_number(body, chance)), *pieces[at + 1 :]]


def _boxes(data: bytes, chance: random.Random) -> bytes:
    """An MP4: goes down at random and changes the boxes there."""
    pieces: list[Piece] = []
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4])
        if size < 8 or at + size > len(data):
            break
        pieces.append((data[at + 4 : at + 8], data[at + 8 : at + size]))
        at += size
    inner = [number for number, (name, _) in enumerate(pieces) if name in CONTAINERS]
    if inner and chance.random() < 0.85:
        number = chance.choice(inner)
        name, body = pieces[number]
        pieces[number] = (name, _boxes(body, chance))
    else:
        pieces = _pieces_changed(pieces, chance, TABLES + MORE_TABLES)
    lies = chance.random() < 0.05
    return (
        b"".join(
            (_number(chance, 4) if lies and name in TABLES else struct.pack(">I", 8 + len(body))) + name + body
            for name, body in pieces
        )
        + data[at:]
    )


def _tags(data: bytes, chance: random.Random) -> bytes:
    """A TIFF: changes an entry of its first directory."""
    order = "<" if data[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", data, 4)
    (n_entries,) = struct.unpack_from(order + "H", data, start)
    entries = [list(struct.unpack_from(order + "HHII", data, start + 2 + 12 * n)) for n in range(n_entries)]
    entry = chance.choice(entries)
    match chance.randrange(6):
        case 0:
            entry[1] = chance.choice((1, 2, 3, 4, 5, 7, 11, 12, 13, 16, 17))
        case 1:
            entry[2] = chance.choice(NUMBERS)
        case 2 | 3:
            entry[3] = chance.choice((*NUMBERS, chance.randrange(len(data)), entry[3] + 1))
        case 4:
            values = (1, 2, 3, 4, 5, 6, 7, 8, 32_773, 32_946, 34_712, 50_000, 50_001)
            entries.append(
                [chance.choice((259, 317, 322, 323, 324, 325, 338, 339, 700, 34_665)), 4, 1, chance.choice(values)]
            )
        case _:
            entries += [[chance.randrange(65_536), 1, len(data) - 8, 8] for _ in range(chance.choice((1, 10, 500)))]
    body = b"".join(struct.pack(order + "HHII", *(value % (1 << 32) if i > 1 else value for i, value in enumerate(e)))
                    for e in sorted(entries, key=lambda e: e[0]))  # fmt: skip
    where = struct.pack(order + "I", len(data))
    return data[:4] + where + data[8:] + struct.pack(order + "H", len(entries)) + body + bytes(4)


def _segments(data: bytes, chance: random.Random) -> bytes:
    """A JPEG: changes a segment before its last scan."""
    pieces: list[Piece] = []
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        size = int.from_bytes(data[at + 2 : at + 4])
        end = at + 2 + size
        if data[at + 1] == 0xDA:
            following = _MARKER.search(data, end)
            end = len(data) if following is None else following.start()
        pieces.append((data[at : at + 2], data[at + 4 : end]))
        at = end
    names = tuple(
        bytes([0xFF, code]) for code in (0xC0, 0xC1, 0xC2, 0xC4, 0xCC, 0xDB, 0xDD, 0xDA, 0xE0, 0xE1, 0xE2, 0xEE)
    )
    pieces = _pieces_changed(pieces, chance, names)
    out = [data[:2]]
    for name, body in pieces:
        size = 2 + (int.from_bytes(body[:1]) * 2 + 4 if name == b"\xff\xda" else min(len(body), 65_533))
        out.append(name + struct.pack(">H", size) + body)
    return b"".join(out) + data[at:]


def _chunks(data: bytes, chance: random.Random) -> bytes:
    """A PNG: changes a chunk, and usually corrects its checksum."""
    pieces: list[Piece] = []
    at = 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at : at + 4])
        if at + 12 + size > len(data):
            break
        pieces.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    names = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"zTXt", b"iCCP", b"iTXt", b"eXIf", b"acTL", b"fcTL", b"fdAT")
    pieces = _pieces_changed(pieces, chance, names)
    wrong = chance.random() < 0.05
    return data[:8] + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body) ^ wrong)
        for name, body in pieces
    )


def _riff(data: bytes, chance: random.Random) -> bytes:
    """A WAV, AIFF or WebP: changes a chunk."""
    order = "big" if data[:4] == b"FORM" else "little"
    pieces: list[Piece] = []
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], order)  # type: ignore[arg-type]
        pieces.append((data[at : at + 4], data[at + 8 : at + 8 + size]))
        at += 8 + size + size % 2
    names = (b"fmt ", b"data", b"LIST", b"ds64", b"cue ", b"VP8X", b"ANIM", b"ANMF", b"VP8 ", b"VP8L", b"EXIF", b"COMM")
    body = b"".join(
        name + len(part).to_bytes(4, order) + part + bytes(len(part) % 2)  # type: ignore[arg-type]
        for name, part in _pieces_changed(pieces, chance, names)
    )
    return data[:4] + (len(body) + 4).to_bytes(4, order) + data[8:12] + body  # type: ignore[arg-type]


def _elements(data: bytes, chance: random.Random) -> bytes:
    """A Matroska: changes the length or the content of an element near its beginning."""
    places: list[tuple[int, int, int, int]] = []
    at = 0
    while at + 3 < len(data) and len(places) < 300:
        n_name = 9 - data[at].bit_length()
        n_size = 9 - data[at + n_name].bit_length() if at + n_name < len(data) else 9
        if n_name > 4 or n_size > 8:
            at += 1
            continue
        size = int.from_bytes(data[at + n_name : at + n_name + n_size]) & (1 << 7 * n_size) - 1
        places.append((at + n_name, n_size, at + n_name + n_size, size))
        # What holds others is gone into, what holds data is passed over.
        at += n_name + n_size + (size if size < 64 else 0)
    where, n_size, start, size = chance.choice(places)
    if chance.random() < 0.3:
        made = (chance.choice(NUMBERS) & (1 << 7 * n_size) - 1 | 1 << 7 * n_size).to_bytes(n_size)
        return data[:where] + made + data[where + n_size :]
    return data[:start] + _with_number(data[start : start + size], chance)[:size] + data[start + size :]
