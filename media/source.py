"""Any reference to media becomes bytes: paths, http(s), `data:` and `file:` URLs, base64.

All kinds of media are read by the same rules; a kind differs from another in its limits and its words alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from media.call_limits import NO_LIMITS, CallLimits
from media.errors import MediaForbidden, shown
from media.inline import decode_base64, decode_data_url, refuse_other_media
from media.network import fetch
from media.paths import path_of_file_url, read_file

if TYPE_CHECKING:
    from media.kinds import MediaKind
    from media.network import TlsContext
    from settings import MediaSettings

_SCHEME = re.compile(r"(?:(https?|data|file):|[a-z][a-z0-9+.-]+://)", re.IGNORECASE)
_BARE_PICTURE = re.compile(r"(?:iVBORw0KGgo|/9j/|R0lGOD|UklGR)[A-Za-z0-9+/_\s-]*", re.DOTALL)
"""How PNG, JPEG, GIF and WebP begin in base64."""
MAX_NAME_CHARS = 120
"""A text that is shorter may be a file's name; every picture's base64 is longer than that, or hardly one."""


class MediaSource:
    """Reads the bytes of one kind of media within its limits. Any thread may call it.

    `timeout_s` bounds a download, `tls_context` makes what https begins with; left out, the well-known authorities
    are trusted. All methods raise `MediaNotFound`, `MediaForbidden`, `MediaTooLarge`,
    `MediaUnreadable` or `MediaCancelled`; what the bytes are is for the caller to find out.
    """

    def __init__(
        self,
        kind: MediaKind,
        max_bytes: int,
        timeout_s: float,
        settings: MediaSettings,
        tls_context: TlsContext | None = None,
    ) -> None:
        self._kind = kind
        self._max_bytes = max_bytes
        self._timeout_s = timeout_s
        self._settings = settings
        self._tls_context = tls_context

    def read(self, reference: str, limits: CallLimits = NO_LIMITS) -> bytes:
        """Reads what a caller may write in one string: a URL if it begins like one, else a path.

        Space around a URL or before a full path is not meant. The base64 text of a picture alone is taken as what it
        is, although it could be a path.
        """
        stripped = reference.strip()
        if _SCHEME.match(stripped):
            return self.read_url(stripped, limits)
        if len(stripped) >= MAX_NAME_CHARS and _BARE_PICTURE.fullmatch(stripped[:MAX_NAME_CHARS]):
            return self.read_base64(stripped, None)
        return self.read_path(stripped if reference[:1].isspace() and stripped[:1] in ("/", "~") else reference)

    def read_path(self, path: str) -> bytes:
        """Reads a file; `path` is absolute, begins with "~", or counts from the server's working folder."""
        return read_file(path, self._settings.allowed_dirs, self._max_bytes, self._kind)

    def read_url(self, url: str, limits: CallLimits = NO_LIMITS) -> bytes:
        """Reads an http, https, `data:` or `file:` URL."""
        scheme = url[:8].partition(":")[0].casefold()
        if scheme == "data":
            return decode_data_url(url, self._max_bytes, self._kind)
        if scheme == "file":
            return self.read_path(path_of_file_url(url))
        if scheme not in ("http", "https"):
            raise MediaForbidden(f"The URL {shown(url)} is not read: only http, https, data and file URLs are.")
        return fetch(
            url,
            max_bytes=self._max_bytes,
            timeout_s=self._timeout_s,
            allowed_hosts=self._settings.allowed_hosts,
            kind=self._kind,
            tls_context=self._tls_context,
            limits=limits,
        )

    def read_base64(self, data: str, mime_type: str | None) -> bytes:
        """Reads base64 text, or a data URL in its place; a MIME type of another kind of media is an error."""
        refuse_other_media(mime_type, self._kind)
        if data[:5].casefold() == "data:":
            return self.read_url(data)
        return decode_base64(data, self._max_bytes, self._kind)
