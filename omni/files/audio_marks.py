"""The parameters of a speech inside its file, with this server's mark: where players show or ignore such things.

WAV: a list of information at the end (ICMT, ISFT). MP3: an ID3 tag at the beginning (TSSE, COMM). FLAC: a block of an
application after the first one.
"""

from __future__ import annotations

import os
import struct
from typing import BinaryIO

from media.decoding.container_layout import bare_wav
from media.decoding.containers import format_of, start_of_stream
from omni.files import metadata

_NAME = metadata.SOFTWARE.encode("ascii")
_FLAC_START = 42
"""The end of a FLAC file's first block: the signature, four bytes of header, and 34 of stream information."""
_FLAC_APPLICATION = 2
_FLAC_LAST = 0x80
_MAX_FLAC_BLOCK = (1 << 24) - 1


def _riff_chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _id3_size(n_bytes: int) -> bytes:
    """Seven bits a byte."""
    return bytes(n_bytes >> shift & 0x7F for shift in (21, 14, 7, 0))


def _id3_frame(kind: bytes, data: bytes) -> bytes:
    return kind + _id3_size(len(data)) + b"\0\0" + data


_WAV_MARK = _riff_chunk(b"ISFT", _NAME + b"\0")
_ID3_UTF8 = b"\x03"
_MP3_MARK = _id3_frame(b"TSSE", _ID3_UTF8 + _NAME)
_ID3_HEADER_BYTES = 10
_FLAC_MARK = b"vmcp" + _NAME + b"\0"


def with_audio_text(data: bytes, text: str) -> bytes:
    """The same WAV, MP3 or FLAC file with a text and our mark."""
    encoded = text.encode()
    match format_of(data):
        case "wav":
            return _marked_wav(data, encoded)
        case "mp3":
            frames = _MP3_MARK + _id3_frame(b"COMM", _ID3_UTF8 + b"eng\0" + encoded)
            return b"ID3\x04\0\0" + _id3_size(len(frames)) + frames + data[start_of_stream(data) :]
        case "flac":
            return _marked_flac(data[start_of_stream(data) :], encoded)
        case _:
            raise ValueError("not a WAV, MP3 or FLAC file")


def is_ours(file: BinaryIO) -> bool:
    """Whether this server wrote an open image, video or audio file, by the mark in it."""
    return metadata.is_ours(file) or _is_our_audio(file)


def _is_our_audio(file: BinaryIO) -> bool:
    file.seek(0)
    head = file.read(_FLAC_START + 4 + len(_FLAC_MARK))
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - len(_WAV_MARK)))
        return file.read() == _WAV_MARK
    if head[:4] == b"fLaC":
        return head.endswith(_FLAC_MARK)
    return head[:3] == b"ID3" and head[_ID3_HEADER_BYTES:].startswith(_MP3_MARK)


def _marked_wav(data: bytes, text: bytes) -> bytes:
    """The chunk follows the samples, whose size a server may have left open; other lists of information are dropped."""
    information = b"INFO" + _riff_chunk(b"ICMT", text + b"\0") + _WAV_MARK
    body = bare_wav(data)[8:] + _riff_chunk(b"LIST", information)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _marked_flac(data: bytes, text: bytes) -> bytes:
    block = (_FLAC_MARK + text)[:_MAX_FLAC_BLOCK]
    last = data[4] & _FLAC_LAST
    first = data[:4] + bytes((data[4] & ~_FLAC_LAST,)) + data[5:_FLAC_START]
    header = bytes((last | _FLAC_APPLICATION,)) + len(block).to_bytes(3, "big")
    return first + header + block + data[_FLAC_START:]
