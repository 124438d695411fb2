"""Finds the image in the response of an images API, in any format.

vLLM-Omni puts base64 into `data[0].b64_json`. Gateways and other servers put it elsewhere, as a data URL, with line
breaks, or send the file itself. An image is recognised by its first bytes, wherever it is. Without an image, a URL is
searched for, and then the reason.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from http_client.loose_json import decoded
from http_client.refusals import Refusal, refusal_in

MAX_DEPTH = 12
MAX_ADDRESS_CHARACTERS = 4_096
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_BASE64_KEYS = ("b64_json", "b64", "base64", "image_base64", "image_b64", "image", "bytesBase64Encoded")
_URL_KEYS = ("url", "image_url", "uri", "image", "images", "data", "output")
_URL_SAFE = str.maketrans("-_", "+/")
_SAID_KEYS = ("refusal", "content", "text", "message", "finish_reason", "finishReason")
_DATA_URL = "data:image/"
_EMBEDDED = re.compile(r"(?<=[(\"'<])data:image/[\w.+-]{1,40};base64,[\w+/=-]++(?=[)\"'>])")
"""An image inside text, as chat models write it: `![](data:image/png;base64,...)`."""
_LINKED = re.compile(r"!\[[^\]]{0,1000}\]\((https?://[^\s)]{1,4000}|/[^\s)/][^\s)]{0,4000})")
_FILE = re.compile(r"[\w./%~-]{1,1000}\.(?:png|jpe?g|webp)(?:\?\S{0,1000})?", re.IGNORECASE)
_MIN_CHARACTERS = 32
_HEAD_CHARACTERS = 24


class ImageResponse(msgspec.Struct, frozen=True):
    """The content of a response.

    Attributes:
        data: the image file, where it is in the response.
        url: where to download it, otherwise.
        refusal: why there is no image.
        said: any other text of a response without an image.
        compute_s, peak_memory_mb: what the server reports.
    """

    data: bytes | None = None
    url: str | None = None
    refusal: Refusal | None = None
    said: str = ""
    compute_s: float | None = None
    peak_memory_mb: float | None = None


def read_image(body: bytes) -> ImageResponse:
    """Reads the body of a successful response. Only the first image is used.

    Raises: `ValueError` where the body is neither an image nor JSON of an images API.
    """
    if body.startswith(_SIGNATURES):
        return ImageResponse(body)
    response, is_json = decoded(body)
    if not is_json:
        response = _events(body)
    if not isinstance(response, dict | list):
        raise ValueError("no object")
    compute_s, peak_memory_mb = _figures(response)
    found = list(_texts(response, "", 0))
    for _, text in found:
        data = _image(text)
        if data is not None:
            return ImageResponse(data, compute_s=compute_s, peak_memory_mb=peak_memory_mb)
    for key, text in found:
        url = text.strip() if key in _URL_KEYS and _is_address(text) else _linked(text)
        if url is not None:
            return ImageResponse(url=url, compute_s=compute_s, peak_memory_mb=peak_memory_mb)
    refusal = _refusal(response)
    if refusal is None:
        for key, text in found:
            if key in _BASE64_KEYS and text.strip():
                return ImageResponse(_bytes(text))  # not an image: decoding it raises the error
        if isinstance(response, list):
            raise ValueError("a list without images")
    said = next((text for key, text in found if key in _SAID_KEYS and text.strip()), "")
    return ImageResponse(refusal=refusal, said=said)


def _events(body: bytes) -> list[Any]:
    """The events of a stream, last first: partial images come before the final one."""
    lines = (line[5:].strip() for line in body.splitlines() if line.startswith(b"data:"))
    return [found for found, is_json in map(decoded, lines) if is_json][::-1]


def _texts(value: Any, key: str, depth: int) -> Iterator[tuple[str, str]]:
    """All strings, each with the key of itself or of the list around it."""
    if depth > MAX_DEPTH:
        return
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, list):
        for entry in value:
            yield from _texts(entry, key, depth + 1)
    elif isinstance(value, dict):
        for name, entry in value.items():
            yield from _texts(entry, name, depth + 1)


def _image(text: str) -> bytes | None:
    """The image file in a base64 text or a data URL; `None` for other text."""
    if text.find(_DATA_URL, 1) > 0 and (embedded := _EMBEDDED.search(text)) is not None:
        text = embedded[0]
    head = text[:200].lstrip()
    if head[:5].lower() == "data:":
        kind, comma, content = text.lstrip().partition(",")
        if not comma:
            return None
        data = _bytes_or_none(content) if "base64" in kind.lower() else unquote_to_bytes(content)
        return data if data is not None and data.startswith(_SIGNATURES) else None
    if len(text) < _MIN_CHARACTERS:
        return None
    begin = "".join(text[: 4 * _HEAD_CHARACTERS].split())[:_HEAD_CHARACTERS]
    head_bytes = _bytes_or_none(begin)
    if head_bytes is None or not head_bytes.startswith(_SIGNATURES):
        return None
    return _bytes_or_none(text)


def _bytes(text: str) -> bytes:
    data = _bytes_or_none(text.partition(",")[2] if text.lstrip()[:5].lower() == "data:" else text)
    if data is None:
        raise ValueError("no base64")
    return data


def _bytes_or_none(text: str) -> bytes | None:
    """Decodes base64 in either alphabet, with or without line breaks and padding."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        pass
    bare = "".join(text.split()).translate(_URL_SAFE).rstrip("=")
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _is_address(text: str) -> bool:
    """Whether a text is the URL or path of an image."""
    if len(text) > MAX_ADDRESS_CHARACTERS:
        return False
    begin = text.strip()[:8].lower()
    if _FILE.fullmatch(text.strip()):
        return True
    return begin.startswith(("http://", "https://")) or (begin.startswith("/") and not begin.startswith("//"))


def _linked(text: str) -> str | None:
    """The URL of the first image in a Markdown text."""
    found = _LINKED.search(text) if "![" in text[:MAX_ADDRESS_CHARACTERS] else None
    return None if found is None else found[1]


def _refusal(response: dict[str, Any] | list[Any]) -> Refusal | None:
    """The error in the response or in one of its rows."""
    rows = response.get("data") if isinstance(response, dict) else response
    for each in (response, *(rows if isinstance(rows, list) else [rows])):
        if isinstance(each, dict) and (found := refusal_in(each)) is not None:
            return found
    return None


def _figures(response: dict[str, Any] | list[Any]) -> tuple[float | None, float | None]:
    metrics = response.get("metrics") if isinstance(response, dict) else None
    if not isinstance(metrics, dict):
        return None, None
    durations = metrics.get("stage_durations")
    compute_ms = _positive(durations.get("stage_0_gen_ms")) if isinstance(durations, dict) else None
    return None if compute_ms is None else compute_ms / 1000, _positive(metrics.get("peak_memory_mb"))


def _positive(figure: Any) -> float | None:
    return float(figure) if isinstance(figure, int | float) and 0 < figure < 1e15 else None
