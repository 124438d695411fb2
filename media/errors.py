"""What can go wrong with media, as one small tree.

Messages are written for the caller: they name the rule that was broken and never echo file content, library
internals or addresses of memory (CVE-2026-22778).

    MediaError
    ├─ MediaNotFound       no such file, or the server did not have it
    ├─ MediaForbidden      a path or an address that the settings do not allow
    ├─ MediaTooLarge       too many bytes, pixels or seconds
    ├─ MediaUnreadable     not in a format we read, damaged, or nothing in it
    └─ MediaCancelled      the call that wanted it was cancelled, or its time is up
"""

MAX_SHOWN_CHARS = 120


class MediaError(Exception):
    """Base of all media errors; `str()` is a sentence for the caller."""


class MediaNotFound(MediaError):
    """There is nothing at that path or URL."""


class MediaForbidden(MediaError):
    """The settings do not allow this path or address."""


class MediaTooLarge(MediaError):
    """Above the limit of bytes, pixels or seconds."""


class MediaUnreadable(MediaError):
    """Not a picture, audio or video that can be decoded."""


class MediaCancelled(MediaError):
    """Whoever asked for it does not wait any more."""


def shown(text: str) -> str:
    """A caller's text, fit for a message: in quotes, shortened, with control characters escaped."""
    head = text if len(text) <= MAX_SHOWN_CHARS else text[: MAX_SHOWN_CHARS - 1] + "…"
    # Not printable are control and direction characters and lone surrogates: none may reach a log or a terminal.
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in head) + '"'


def megabytes(n_bytes: int) -> str:
    """A size as the settings write it: in millions of bytes."""
    return f"{n_bytes / 1e6:g} MB"
