"""Response bodies with a limit on their decompressed size; some servers compress without being asked."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

_GZIP_OR_ZLIB = zlib.MAX_WBITS + 32
_BARE = -zlib.MAX_WBITS
_PIECE_BYTES = 1 << 20


class UnreadableBody(Exception):
    """The body cannot be decompressed; `str()` completes the sentence "the server answered …"."""


class BodyTooLong(Exception):
    """The body has more bytes than allowed."""


async def pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    """The decompressed body in pieces of at most 1 MiB.

    Raises: `UnreadableBody`; what httpx raises while it reads.
    """
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity", "none", "utf-8"):
        async for data in response.aiter_raw():
            yield data
        return
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise UnreadableBody("in an unsupported compression (gzip and deflate are supported)")
    decompression = _Decompression()
    async for data in response.aiter_raw():
        for piece in decompression.feed(data):
            yield piece


async def body_of(
    response: httpx.Response, max_bytes: int, *, cut: bool = False, into: bytearray | None = None
) -> bytes:
    """The whole body.

    Arguments:
        response: an open response.
        max_bytes: the maximum size.
        cut: whether a longer body is cut, as for errors.
        into: receives the data, which stays there when the connection breaks.

    Raises: `BodyTooLong`, `UnreadableBody`; what httpx raises.
    """
    data = bytearray() if into is None else into
    async for piece in pieces(response):
        data += piece
        if len(data) > max_bytes:
            if cut:
                return bytes(data[:max_bytes])
            raise BodyTooLong
    return bytes(data)


class _Decompression:
    def __init__(self) -> None:
        self._decompressor: zlib._Decompress | None = None
        self._is_plain = False
        self._begun_with = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Decompresses bytes; data that is not compressed despite its header is returned unchanged."""
        if self._is_plain:
            return [data]
        if self._decompressor is None:
            self._begun_with = data = self._begun_with + data
            if len(data) < 2:  # the format shows in two bytes
                return []
            self._decompressor = self._begun(data)
            if self._decompressor is None:
                self._is_plain = True
                return [data]
        output = []
        try:
            while data and self._decompressor is not None:
                output.append(self._decompressor.decompress(data, _PIECE_BYTES))
                data = self._decompressor.unconsumed_tail
                if self._decompressor.eof:
                    data = self._decompressor.unused_data
                    if not data:
                        break
                    self._decompressor = zlib.decompressobj(_GZIP_OR_ZLIB)  # gzip allows several members
        except zlib.error:
            raise UnreadableBody("with damaged compressed data") from None
        return output

    def _begun(self, data: bytes) -> zlib._Decompress | None:
        if data[:2] == b"\x1f\x8b" or (data[0] & 15 == 8 and int.from_bytes(data[:2].ljust(2, b"\0")) % 31 == 0):
            return zlib.decompressobj(_GZIP_OR_ZLIB)
        if data.lstrip()[:1] in (b"{", b"[", b"d", b":", b"e", b"<", b"\xef"):
            return None
        return zlib.decompressobj(_BARE)
