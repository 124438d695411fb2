"""What can go wrong with a picture, as one small tree.

Messages are written for the caller: they name the rule that was broken and never echo file content, library
internals or addresses of memory (CVE-2026-22778).

    MediaError
    ├─ MediaNotFound       no such file, or the server did not have it
    ├─ MediaForbidden      a path or an address that the settings do not allow
    ├─ MediaTooLarge       too many bytes or pixels
    └─ MediaUnreadable     not a picture in a format we read, or damaged
"""


class MediaError(Exception):
    """Base of all media errors; `str()` is a sentence for the caller."""


class MediaNotFound(MediaError):
    """There is nothing at that path or URL."""


class MediaForbidden(MediaError):
    """The settings do not allow this path or address."""


class MediaTooLarge(MediaError):
    """Above the limit of bytes or pixels."""


class MediaUnreadable(MediaError):
    """Not a picture that can be decoded."""
