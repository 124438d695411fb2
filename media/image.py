"""Reads images from paths, URLs, data URLs and base64.

From every source, a bounded number of bytes goes to the decoder. Recently decoded images are cached, so a file that
several calls refer to is decoded once.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from media.call_limits import NO_LIMITS, CallLimits
from media.files.paths import read_file
from media.kinds import IMAGE
from media.source import MediaSource

if TYPE_CHECKING:
    from PIL.Image import Image

    from media.decoder import Decoder
    from media.network.downloads import TlsContext
    from settings import MediaSettings

CACHE_BYTES = 64 << 20
BYTES_PER_PIXEL = 4
"""Pillow stores RGB in four bytes per pixel."""


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """An image, upright and RGB. It may be shared between calls; copy it before changing it.

    `digest` is a SHA-256 in hex of the encoded image and of how it was decoded. Equal digests mean equal size and
    pixels. A hash of the pixels alone does not guarantee that (CVE-2025-46722), and a hash of size and pixels takes
    longer than decoding. `n_bytes` is the size of the pixels in memory.
    """

    image: Image
    digest: str
    n_bytes: int


class ImageReader:
    """Reads images within the limits of the settings. Any thread may call it.

    All methods raise `MediaNotFound`, `MediaForbidden`, `MediaTooLarge`, `MediaUnreadable` or `MediaCancelled`.

    Arguments of all methods:
        longest_side: pixels that the caller needs; a large JPEG is then decoded at a fraction of its size. By default
            the setting of that name.
        limits: end the read early.
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
        self._source = MediaSource(IMAGE, settings.max_image_bytes, settings, tls_context)
        self._cache = _Cache(cache_bytes)

    def read(self, reference: str, longest_side: int | None = None, limits: CallLimits = NO_LIMITS) -> DecodedImage:
        """Reads a URL if the text begins like one, else a path."""
        return self._decoded(self._source.read(reference, limits), longest_side, limits)

    def read_url(self, url: str, longest_side: int | None = None, limits: CallLimits = NO_LIMITS) -> DecodedImage:
        """Reads an http, https, `data:` or `file:` URL."""
        return self._decoded(self._source.read_url(url, limits), longest_side, limits)

    def read_path(self, path: str, longest_side: int | None = None, limits: CallLimits = NO_LIMITS) -> DecodedImage:
        """Reads a file; `path` is absolute, begins with "~", or is relative to the server's working folder."""
        return self._decoded(self._source.read_path(path), longest_side, limits)

    def read_written(self, path: str, limits: CallLimits = NO_LIMITS) -> DecodedImage:
        """Reads a file that this server wrote, whatever folders the settings allow; a link that leads out of its folder
        is not followed."""
        data = read_file(path, (os.path.dirname(path),), self._settings.max_image_bytes)
        return self._decoded(data, None, limits)

    def read_base64(
        self, data: str, mime_type: str | None, longest_side: int | None = None, limits: CallLimits = NO_LIMITS
    ) -> DecodedImage:
        """Reads base64 text or a data URL; a MIME type that is not an image type is an error."""
        return self._decoded(self._source.read_base64(data, mime_type), longest_side, limits)

    def read_bytes(self, data: bytes, longest_side: int | None = None, limits: CallLimits = NO_LIMITS) -> DecodedImage:
        """Reads an image file that is already in memory."""
        return self._decoded(data, longest_side, limits)

    def forget(self) -> None:
        """Empties the cache."""
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


class _Cache:
    """The most recently used images, up to a number of bytes, by digest."""

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
