"""The errors of reading media.

Texts are written for the caller: they name the rule that was broken and never contain file content, library internals
or memory addresses (CVE-2026-22778).

    MediaError
    ├─ MediaNotFound       no such file or URL
    ├─ MediaForbidden      a path or an address that the settings do not allow
    ├─ MediaTooLarge       too many bytes, pixels or seconds
    ├─ MediaUnreadable     an unsupported format, damaged, or empty
    └─ MediaCancelled      the call was cancelled, or its time is up
"""

MAX_SHOWN_CHARS = 120


class MediaError(Exception):
    """Base of all media errors; `str()` is a sentence for the caller."""


class MediaNotFound(MediaError):
    """Nothing exists at that path or URL."""


class MediaForbidden(MediaError):
    """The settings do not allow this path or address."""


class MediaTooLarge(MediaError):
    """More bytes, pixels or seconds than allowed."""


class MediaUnreadable(MediaError):
    """Not an image, audio or video that can be decoded."""


class MediaCancelled(MediaError):
    """The call was cancelled, or its time is up."""


def shown(text: str) -> str:
    """A caller's text for an error message: quoted, shortened, with control characters escaped."""
    head = text if len(text) <= MAX_SHOWN_CHARS else text[: MAX_SHOWN_CHARS - 1] + "…"
    # Control and direction characters and lone surrogates must not reach a log or a terminal.
    return '"' + "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in head) + '"'


def megabytes(n_bytes: int) -> str:
    """A size in millions of bytes, as in the settings."""
    return f"{n_bytes / 1e6:g} MB"
