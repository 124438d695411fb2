"""Files of a few kilobytes or megabytes that ask a decoder for gigabytes or hours, though their headers are modest."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image

UNITY = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
MANY = 150_000_000


def box(name: bytes, *parts: bytes) -> bytes:
    """A box of an MP4."""
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + name + body


def full_box(name: bytes, *parts: bytes, flags: int = 0) -> bytes:
    """A box with a version and flags."""
    return box(name, struct.pack(">I", flags), *parts)


def mp4(tables: dict[bytes, bytes] | None = None, n_tracks: int = 1, more: bytes = b"", after: bytes = b"") -> bytes:
    """An MP4 with one frame a track. `tables` replace the boxes of the sample table with these bodies, or are added;
    `more` goes into `moov`, `after` behind it."""
    tracks = [_track(number, tables or {}) for number in range(1, n_tracks + 1)]
    header = struct.pack(">IIII", 0, 0, 1000, 1000) + struct.pack(">IH", 0x10000, 0x100) + bytes(10)
    movie = full_box(b"mvhd", header, UNITY, bytes(24), struct.pack(">I", n_tracks + 1))
    return box(b"ftyp", b"isom\0\0\2\0isommp41") + box(b"mdat", bytes(64)) + box(b"moov", movie, *tracks, more) + after


def _track(number: int, tables: dict[bytes, bytes]) -> bytes:
    size = struct.pack(">II", 64 << 16, 64 << 16)
    head = full_box(b"tkhd", struct.pack(">IIIII", 0, 0, number, 0, 1000), bytes(16), UNITY, size, flags=7)
    entry = box(
        b"mp4v",
        bytes(6) + struct.pack(">H", 1) + bytes(16) + struct.pack(">HHII", 64, 64, 0x480000, 0x480000),
        bytes(4) + struct.pack(">H", 1) + bytes(32) + struct.pack(">Hh", 24, -1),
    )
    found = {
        b"stsd": struct.pack(">I", 1) + entry,
        b"stts": struct.pack(">III", 1, 1, 1000),
        b"stsc": struct.pack(">IIII", 1, 1, 1, 1),
        b"stsz": struct.pack(">II", 64, 1),
        b"stco": struct.pack(">II", 1, 40),
        **tables,
    }
    table = box(b"stbl", *(full_box(name, body) for name, body in found.items()))
    data = box(b"dinf", full_box(b"dref", struct.pack(">I", 1), full_box(b"url ", flags=1)))
    media = box(
        b"mdia",
        full_box(b"mdhd", struct.pack(">IIIIHH", 0, 0, 1000, 1000, 0, 0)),
        full_box(b"hdlr", bytes(4), b"vide", bytes(13)),
        box(b"minf", full_box(b"vmhd", bytes(8), flags=1), data, table),
    )
    return box(b"trak", head, media)


def fragment(n_samples: int, *extra: bytes) -> bytes:
    """A fragment whose run claims so many samples, without a byte for any of them."""
    run = full_box(b"trun", struct.pack(">I", n_samples))
    part = box(b"traf", full_box(b"tfhd", struct.pack(">I", 1), flags=0x020000), run, *extra)
    return box(b"moof", full_box(b"mfhd", struct.pack(">I", 1)), part) + box(b"mdat", bytes(64))


def swollen_mp4s() -> dict[str, bytes]:
    """MP4 files of about a kilobyte whose tables ask for gigabytes, one for each table."""
    one = struct.pack(">I", 1)
    extends = box(b"mvex", full_box(b"trex", struct.pack(">IIIII", 1, 1, 1, 1, 0)))
    names = full_box(b"keys", struct.pack(">I", MANY), struct.pack(">I", 9) + b"mdta" + b"a")
    index = full_box(b"sidx", one, struct.pack(">IIIHH", 1000, 0, 0, 0, 65_535), bytes(64))
    keys = box(b"meta", full_box(b"hdlr", bytes(4), b"mdta", bytes(12)), names)
    chunks = {b"stsc": struct.pack(">IIII", 1, 1, MANY, 1), b"stsz": struct.pack(">II", 1, MANY)}
    return {
        "stsz": mp4({**chunks, b"stts": struct.pack(">III", 1, MANY, 1)}),
        "stsz of several tracks": mp4({**chunks, b"stts": struct.pack(">III", 1, MANY, 1)}, n_tracks=4),
        "stsz without sizes": mp4({b"stsz": struct.pack(">II", 0, MANY)}),
        "stts": mp4({b"stts": struct.pack(">III", MANY, MANY, 1)}),
        "ctts": mp4({b"ctts": struct.pack(">III", MANY, MANY, 1)}),
        "stsc": mp4({b"stsc": struct.pack(">IIII", MANY, 1, 1, 1)}),
        "stco": mp4({b"stco": struct.pack(">II", MANY, 40)}),
        "co64": mp4({b"co64": struct.pack(">IQ", MANY, 40)}),
        "stss": mp4({b"stss": struct.pack(">II", MANY, 1)}),
        "stsd": mp4({b"stsd": struct.pack(">I", MANY)}),
        "sbgp": mp4({b"sbgp": b"rap " + struct.pack(">III", MANY, MANY, 1)}),
        "elst": mp4(more=box(b"trak", box(b"edts", full_box(b"elst", struct.pack(">IIII", MANY, 1, 0, 1 << 16))))),
        "trun": mp4(more=extends, after=fragment(MANY)),
        "several runs": mp4(more=extends, after=fragment(MANY) * 5),
        "sidx": mp4(more=extends, after=index),
        "saiz": mp4(more=extends, after=fragment(1, full_box(b"saiz", bytes([1]), struct.pack(">I", MANY)))),
        "saio": mp4(more=extends, after=fragment(1, full_box(b"saio", struct.pack(">I", MANY)))),
        "keys": mp4(more=keys),
        "ilst": mp4(more=box(b"udta", full_box(b"meta", box(b"ilst", struct.pack(">I", 0x7FFF_FFFF) + b"covr")))),
    }


Tags = dict[int, tuple[int, int, int | bytes]]


def tiff(tags: Tags, data: bytes = b"") -> bytes:
    """A TIFF: `data` after the header of 8 bytes, then its tags as (type, count, value, or the value's bytes)."""
    out, entries = bytearray(b"II*\0\0\0\0\0" + data), b""
    for tag, (kind, count, value) in sorted(tags.items()):
        where = value if isinstance(value, int) else len(out)
        out += value if isinstance(value, bytes) else b""
        entries += struct.pack("<HHII", tag, kind, count, where)
    out[4:8] = struct.pack("<I", len(out))
    return bytes(out) + struct.pack("<H", len(tags)) + entries + bytes(4)


def _grey(width: int, height: int, compression: int, bits: int = 8) -> Tags:
    return {
        256: (4, 1, width),
        257: (4, 1, height),
        258: (3, 1, bits),
        259: (3, 1, compression),
        262: (3, 1, 1),
        277: (3, 1, 1),
    }


def huge_tile(width: int = 32_768, height: int = 30_000) -> bytes:
    """16 × 16 pixels out of one tile of a gigabyte."""
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(width)) for _ in range(height)) + packer.flush()
    tile: Tags = {322: (4, 1, width), 323: (4, 1, height), 324: (4, 1, 8), 325: (4, 1, len(data))}
    return tiff({**_grey(16, 16, 8), **tile}, data)


def huge_strip(n_bytes: int = 1 << 30) -> bytes:
    """16 × 16 pixels in one strip that says it has as many bytes as this."""
    return tiff({**_grey(16, 16, 5), 273: (4, 1, 8), 278: (4, 1, 1 << 30), 279: (4, 1, n_bytes)}, bytes(512))


def overlapping_strips(n_strips: int = 200, side: int = 7_000) -> bytes:
    """Strips of nearly the whole image each, which share their bytes."""
    offsets = struct.pack(f"<{n_strips}I", *range(8, 8 + n_strips))
    strips: Tags = {273: (4, n_strips, offsets), 278: (4, 1, side - 1)}
    return tiff({**_grey(side, side, 1, bits=1), **strips}, bytes((side + 7) // 8 * side + 2 * n_strips))


def overlapping_tags(n_tags: int = 3_000, n_bytes: int = 2_000_000) -> bytes:
    """Tags without a meaning whose values are all the same bytes."""
    tags: Tags = {40_000 + number: (1, n_bytes, 8) for number in range(n_tags)}
    plain: Tags = {273: (4, 1, 8), 278: (4, 1, 16), 279: (4, 1, 256)}
    return tiff({**_grey(16, 16, 1), **plain, **tags}, bytes(n_bytes))


def segment(marker: int, body: bytes) -> bytes:
    """A segment of a JPEG."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def jpeg(size: tuple[int, int] = (8, 8), **options: object) -> bytes:
    """A small JPEG."""
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, "JPEG", **options)
    return buffer.getvalue()


def empty_scans(n_scans: int = 20_000, side: int = 7_000) -> bytes:
    """A progressive JPEG in which each of many scans goes over all blocks and says nothing about any of them."""
    n_blocks = -((-side // 8) ** 2)
    n_blocks = (-(-side // 8)) ** 2
    run = "0" + "1" * 13 + "0"
    bits = run * -(-n_blocks // 32_766)
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    head = segment(0xDB, bytes([0]) + b"\1" * 64)
    head += segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + bytes([1, 0x11, 0]))
    for kind, value in ((0x00, 0), (0x10, 0xE0)):
        head += segment(0xC4, bytes([kind, 1]) + bytes(15) + bytes([value]))
    first = segment(0xDA, bytes([1, 1, 0, 0, 0, 0])) + bytes(-(-n_blocks // 8))
    return b"\xff\xd8" + head + first + (segment(0xDA, bytes([1, 1, 0, 1, 63, 0])) + data) * n_scans + b"\xff\xd9"


def exif_pieces(n_bytes: int = 6_000_000) -> bytes:
    """A JPEG whose EXIF data come in many pieces, each of which a reader puts to all before it."""
    plain = jpeg()
    large, small = segment(0xE1, b"Exif\0\0" + b"a" * 65_000), segment(0xE1, b"Exif\0\0a")
    return plain[:2] + large * (n_bytes // 2 // len(large)) + small * (n_bytes // 2 // len(small)) + plain[2:]


def chunk(name: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(*extra: bytes, size: tuple[int, int] = (8, 8), pixels: bytes | None = None) -> bytes:
    """A PNG of grey pixels with further chunks behind its header."""
    data = zlib.compress(b"".join(b"\0" + bytes(size[0]) for _ in range(size[1]))) if pixels is None else pixels
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def packed_chunk(name: bytes, n_bytes: int = 1 << 30) -> bytes:
    """A chunk of compressed text or profile of so many bytes."""
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(1 << 20)) for _ in range(n_bytes >> 20)) + packer.flush()
    return chunk(name, b"a\0\0" + data)


def webp_canvas(side: int = 16_384) -> bytes:
    """A WebP that declares a canvas and has nothing on it."""
    canvas = struct.pack("<I", 2) + (side - 1).to_bytes(3, "little") * 2
    body = b"WEBPVP8X" + struct.pack("<I", len(canvas)) + canvas + b"ANIM" + struct.pack("<I", 6) + bytes(6)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def gif_frames(n_frames: int = 100_000) -> bytes:
    """A GIF with one pixel in many frames."""
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x44\1\0"
    return b"GIF89a" + struct.pack("<HHBBB", 1, 1, 0x80, 0, 0) + bytes(6) + frame * n_frames + b";"
