"""The images of one call: each is read once, and counts in the budget until the call has ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from media.errors import MediaTooLarge
from media.image import DecodedImage, ImageReader
from sandbox.budget import Holding, OverBudget

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.call import Call


def images_of(call: Call, services: Services) -> ImageReader:
    """The reader for the images of a call.

    An image that a session keeps counts no longer when the call has ended: sessions have bounds of their own.
    """
    holding = services.budget.hold()
    call.at_end(holding.release)
    return HeldImages(services.images, holding)


class HeldImages(ImageReader):
    """A reader that gives the same image for the same reference, and for the same bytes.

    Arguments: what reads; what the images take of the budget.
    All methods also raise `MediaTooLarge` for an image for which the budget has no room.
    """

    def __init__(self, images: ImageReader, holding: Holding) -> None:
        self._images = images
        self._holding = holding
        self._by_reference: dict[Hashable, DecodedImage] = {}
        self._by_digest: dict[str, DecodedImage] = {}
        self._lock = threading.Lock()

    def read(self, reference: str, *longest_side: Any, **options: Any) -> DecodedImage:
        """See `ImageReader.read`."""
        return self._once("any", self._images.read, reference, *longest_side, **options)

    def read_url(self, url: str, *longest_side: Any, **options: Any) -> DecodedImage:
        """See `ImageReader.read_url`."""
        return self._once("url", self._images.read_url, url, *longest_side, **options)

    def read_path(self, path: str, *longest_side: Any, **options: Any) -> DecodedImage:
        """See `ImageReader.read_path`."""
        return self._once("path", self._images.read_path, path, *longest_side, **options)

    def read_base64(self, data: str, mime_type: str | None, *longest_side: Any, **options: Any) -> DecodedImage:
        """See `ImageReader.read_base64`."""
        return self._once("base64", self._images.read_base64, data, mime_type, *longest_side, **options)

    def _once(self, kind: str, read: Callable[..., DecodedImage], *arguments: Any, **options: Any) -> DecodedImage:
        key = (kind, *arguments, options.get("longest_side"))
        with self._lock:
            known = self._by_reference.get(key)
        if known is not None:
            return known
        decoded = read(*arguments, **options)
        with self._lock:
            known = self._by_digest.get(decoded.digest)
            if known is None:
                try:
                    self._holding.add(decoded.n_bytes)
                except OverBudget as error:
                    raise MediaTooLarge(str(error)) from None
                known = self._by_digest[decoded.digest] = decoded
            self._by_reference[key] = known
            return known
