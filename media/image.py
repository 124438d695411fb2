"""The one place where a reference to a picture becomes a picture: paths, URLs, data URLs, base64.

Whatever its source, a picture takes the same way: bounded bytes, then the decoder. Pictures that were decoded
lately are kept, so a file that is asked about several times is decoded once.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from media.call_limits import NO_LIMITS, CallLimits
from media.kinds import PICTURE
from media.source import MediaSource

if TYPE_CHECKING:
    from PIL.Image import Image

    from media.decoder import Decoder
    from media.network import TlsContext
    from settings import MediaSettings

CACHE_BYTES = 64 << 20
BYTES_PER_PIXEL = 4
"""Pillow keeps RGB in four bytes a pixel."""


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """A picture, upright and RGB. It may be shared between calls: whoever wants to change it makes a copy.

    `digest` is a SHA-256 in hex over the encoded picture and how it was decoded. Pictures with equal digests have
    equal shape and pixels, which a hash over bare pixels would not promise (CVE-2025-46722); a hash over shape and
    pixels would take longer than decoding. `n_bytes` is the size of the pixels in memory.
    """

    image: Image
    digest: str
    n_bytes: int


class ImageReader:
    """Reads pictures within the limits of the settings. Any thread may call it.

    All methods raise `MediaNotFound`, `MediaForbidden`, `MediaTooLarge`, `MediaUnreadable` or `MediaCancelled`.
    `longest_side` (pixels) is for callers that would shrink the picture anyway: a large JPEG is then decoded at a
    fraction of its size. Where it is not given, the setting of that name holds. `limits` end a read before it is done.
    """

    def __init__(
        self,
        settings: MediaSettings,
        decoder: Decoder,
        cache_bytes: int = CACHE_BYTES,
        tls_context: TlsContext | None = None,
    ) -> None:
        self._settings = settings
        self._decoder = decoder
        self._source = MediaSource(PICTURE, settings.max_image_bytes, settings.fetch_timeout_s, settings, tls_context)
        self._cache = _Cache(cache_bytes)

    def read(self, reference: str, longest_side: int | None = None, limits: CallLimits = NO_LIMITS) -> DecodedImage:
        """Reads what a caller may write in one string: a URL if it begins like one, else a path."""
        return self._decoded(self._source.read(reference, limits), longest_side, limits)

    def read_url(self, url: str, longest_side: int | None = None, limits: CallLimits = NO_LIMITS) -> DecodedImage:
        """Reads an http, https, `data:` or `file:` URL."""
        return self._decoded(self._source.read_url(url, limits), longest_side, limits)

    def read_path(self, path: str, longest_side: int | None = None, limits: CallLimits = NO_LIMITS) -> DecodedImage:
        """Reads a file; `path` is absolute, begins with "~", or counts from the server's working folder."""
        return self._decoded(self._source.read_path(path), longest_side, limits)

    def read_base64(
        self, data: str, mime_type: str | None, longest_side: int | None = None, limits: CallLimits = NO_LIMITS
    ) -> DecodedImage:
        """Reads base64 text, or a data URL in its place; a MIME type that is no picture's is an error."""
        return self._decoded(self._source.read_base64(data, mime_type), longest_side, limits)

    def forget(self) -> None:
        """Drops the pictures that are kept for the next time."""
        self._cache.clear()

    def _decoded(self, data: bytes, longest_side: int | None, limits: CallLimits) -> DecodedImage:
        if longest_side is None:
            longest_side = self._settings.longest_side
        hashed = hashlib.sha256(f"{longest_side} ".encode("ascii"))
        hashed.update(data)
        digest = hashed.hexdigest()
        found = self._cache.get(digest)
        if found is None:
            image = self._decoder.image(data, self._settings.max_image_pixels, longest_side, limits)
            found = DecodedImage(image, digest, image.width * image.height * BYTES_PER_PIXEL)
            self._cache.put(found)
        return found


def decoders() -> int:
    """How many pictures are decoded at a time: one processor stays with whoever waits for them, who is busy with the
    first of them already."""
    n_processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, n_processors - 1)


class _Cache:
    """The pictures used last, up to a number of bytes, by digest."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._n_bytes = 0
        self._images: OrderedDict[str, DecodedImage] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, digest: str) -> DecodedImage | None:
        with self._lock:
            found = self._images.get(digest)
            if found is not None:
                self._images.move_to_end(digest)
            return found

    def put(self, image: DecodedImage) -> None:
        with self._lock:
            if image.n_bytes > self._max_bytes or image.digest in self._images:
                return
            self._images[image.digest] = image
            self._n_bytes += image.n_bytes
            while self._n_bytes > self._max_bytes:
                self._n_bytes -= self._images.popitem(last=False)[1].n_bytes

    def clear(self) -> None:
        with self._lock:
            self._images.clear()
            self._n_bytes = 0
