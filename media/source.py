"""Reads the bytes of media from paths, http(s), `data:` and `file:` URLs, and base64.

All kinds of media follow the same rules; they differ only in their limits and in error texts.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from media.call_limits import NO_LIMITS, CallLimits
from media.errors import MediaForbidden, shown
from media.files.file_urls import path_of_file_url
from media.files.paths import path_here, read_file
from media.inline import decode_base64, decode_data_url, refuse_other_media
from media.network.downloads import fetch

if TYPE_CHECKING:
    from media.kinds import MediaKind
    from media.network.downloads import TlsContext
    from settings import MediaSettings

_SCHEME = re.compile(r"(?:(https?|data|file):|[a-z][a-z0-9+.-]+://)", re.IGNORECASE)
_BARE_IMAGE = re.compile(r"(?:iVBORw0KGgo|/9j/|R0lGOD|UklGR)[A-Za-z0-9+/_\s-]*", re.DOTALL)
"""The beginning of PNG, JPEG, GIF and WebP in base64."""
MAX_NAME_CHARS = 120
"""A shorter text is taken as a path; the base64 text of a real image is longer."""


def local_path(reference: str) -> str | None:
    """The absolute path of the file that `MediaSource.read` reads for a reference; `None` for other URLs and base64.

    Raises: `MediaError` for a `file:` URL or a relative path that names no file of this machine.
    """
    path = _path_in(reference)
    return None if path is None else path_here(path)


class MediaSource:
    """Reads the bytes of one kind of media within its limits. Any thread may call it.

    All methods raise `MediaNotFound`, `MediaForbidden`, `MediaTooLarge`, `MediaUnreadable` or `MediaCancelled`. The
    bytes are not checked to be media.

    Arguments:
        tls_context: of https connections; by default the well-known authorities are trusted.
    """

    def __init__(
        self, kind: MediaKind, max_bytes: int, settings: MediaSettings, tls_context: TlsContext | None = None
    ) -> None:
        self._kind = kind
        self._max_bytes = max_bytes
        self._settings = settings
        self._tls_context = tls_context

    def read(self, reference: str, limits: CallLimits = NO_LIMITS) -> bytes:
        """Reads a URL if the text begins like one, the base64 text of an image, else a path.

        Whitespace around a URL and before an absolute path is ignored.
        """
        path = _path_in(reference)
        if path is not None:
            return self.read_path(path)
        stripped = reference.strip()
        return self.read_url(stripped, limits) if _SCHEME.match(stripped) else self.read_base64(stripped, None)

    def read_path(self, path: str) -> bytes:
        """Reads a file; `path` is absolute, begins with "~", or is relative to the server's working folder."""
        return read_file(path, self._settings.allowed_dirs, self._max_bytes, self._kind)

    def read_url(self, url: str, limits: CallLimits = NO_LIMITS) -> bytes:
        """Reads an http, https, `data:` or `file:` URL."""
        scheme = url[:8].partition(":")[0].casefold()
        if scheme == "data":
            return decode_data_url(url, self._max_bytes, self._kind)
        if scheme == "file":
            return self.read_path(path_of_file_url(url))
        if scheme not in ("http", "https"):
            raise MediaForbidden(f"The URL {shown(url)} is not supported; only http, https, data and file URLs are.")
        return fetch(
            url,
            max_bytes=self._max_bytes,
            timeout_s=self._settings.fetch_timeout_s or self._kind.fetch_timeout_s,
            allowed_hosts=self._settings.allowed_hosts,
            kind=self._kind,
            tls_context=self._tls_context,
            limits=limits,
        )

    def read_base64(self, data: str, mime_type: str | None) -> bytes:
        """Reads base64 text or a data URL; a MIME type of another kind of media is an error."""
        refuse_other_media(mime_type, self._kind)
        if data[:5].casefold() == "data:":
            return self.read_url(data)
        return decode_base64(data, self._max_bytes, self._kind)


def _path_in(reference: str) -> str | None:
    """The path that a reference is, or that its `file:` URL has; `None` for other URLs and the base64 of an image."""
    stripped = reference.strip()
    if _SCHEME.match(stripped):
        return path_of_file_url(stripped) if stripped[:5].casefold() == "file:" else None
    if len(stripped) >= MAX_NAME_CHARS and _BARE_IMAGE.fullmatch(stripped[:MAX_NAME_CHARS]):
        return None
    return stripped if reference[:1].isspace() and stripped[:1] in ("/", "~") else reference
