"""Media inside the message: base64 text and `data:` URLs.

The size limit is checked on the length of the text, before it is decoded.
"""

from __future__ import annotations

import binascii
from urllib.parse import unquote

from media.errors import MediaTooLarge, MediaUnreadable, megabytes, shown
from media.kinds import IMAGE, MediaKind

_URL_SAFE_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_WHITESPACE = b" \t\r\n\f\v"
_UNTYPED = ("", "application/octet-stream", "binary/octet-stream")


def decode_base64(text: str, max_bytes: int, kind: MediaKind = IMAGE) -> bytes:
    """Decodes base64 in the standard or the URL-safe alphabet; whitespace and missing padding are accepted.

    Raises: `MediaTooLarge` above `max_bytes`; `MediaUnreadable` for text that is not base64.
    """
    try:
        raw = text.encode("ascii")
    except UnicodeEncodeError:
        raise MediaUnreadable(f"The {kind.noun}'s data is not base64: it has characters outside ASCII.") from None
    compact = raw.translate(_URL_SAFE_TO_STANDARD, _WHITESPACE)
    body = compact.rstrip(b"=")
    n_bytes = len(body) * 3 // 4
    if n_bytes > max_bytes:
        raise MediaTooLarge(
            f"The {kind.noun} has {megabytes(n_bytes)}; {kind.max_bytes_setting} allows {megabytes(max_bytes)}."
        )
    if not body:
        raise MediaUnreadable(f"The {kind.noun}'s data is empty.")
    missing = -len(body) % 4
    if missing == 3 or len(compact) - len(body) not in (0, missing):
        raise MediaUnreadable(f"The {kind.noun}'s data is not base64: its length is wrong; it may be cut off.")
    try:
        return binascii.a2b_base64(body + b"=" * missing, strict_mode=True)
    except binascii.Error:
        raise MediaUnreadable(
            f"The {kind.noun}'s data is not base64: it has characters outside the base64 alphabet."
        ) from None


def decode_data_url(url: str, max_bytes: int, kind: MediaKind = IMAGE) -> bytes:
    """Decodes `data:[<mime type>][;<parameter>…];base64,<data>`; errors as in `decode_base64`."""
    header, comma, payload = url.partition(",")
    if not comma:
        raise MediaUnreadable(f"The data URL has no comma; it must look like {_example(kind)}.")
    mime_type, *parameters = header[len("data:") :].split(";")
    if not parameters or parameters[-1].strip().casefold() != "base64":
        raise MediaUnreadable(
            f"The data URL is percent-encoded, but only base64 is supported: it must look like {_example(kind)}."
        )
    refuse_other_media(mime_type, kind)
    return decode_base64(unquote(payload) if "%" in payload else payload, max_bytes, kind)


def refuse_other_media(mime_type: str | None, kind: MediaKind = IMAGE) -> None:
    """Raises `MediaUnreadable` for a MIME type of another kind of media; a wrong type of the same kind is accepted."""
    folded = (mime_type or "").split(";")[0].strip().casefold()
    if folded not in _UNTYPED and not folded.startswith(kind.mime_types):
        raise MediaUnreadable(f"The MIME type {shown(folded)} is not {kind.type_noun}: expected {kind.expected_types}.")


def _example(kind: MediaKind) -> str:
    return f"data:{kind.example_type};base64,…"
