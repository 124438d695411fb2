"""The image in an answer of an images API, in whatever form it is there.

vLLM-Omni puts base64 into `data[0].b64_json`; gateways and other servers of that API put it elsewhere, behind
`data:image/png;base64,`, with line breaks in it, or send the file itself. An image is known by its first bytes, so it
is found wherever it is; where there is none, an address is looked for, and then a reason.
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
"""An image within a text, as chat models write it: `![](data:image/png;base64,...)`."""
_LINKED = re.compile(r"!\[[^\]]{0,1000}\]\((https?://[^\s)]{1,4000}|/[^\s)/][^\s)]{0,4000})")
_FILE = re.compile(r"[\w./%~-]{1,1000}\.(?:png|jpe?g|webp)(?:\?\S{0,1000})?", re.IGNORECASE)
_LEAST_CHARACTERS = 32
_HEAD_CHARACTERS = 24


class ImageAnswer(msgspec.Struct, frozen=True):
    """What there is of an image: its file, else the address it can be fetched from, else why there is none, or
    whatever else was `said`. Beside it what the server says that took in seconds and of its memory in MB."""

    data: bytes | None = None
    url: str | None = None
    refusal: Refusal | None = None
    said: str = ""
    compute_s: float | None = None
    peak_memory_mb: float | None = None


def read_answer(body: bytes) -> ImageAnswer:
    """Reads the body of an answer with a status of success. Extra images are left alone.

    Raises: `ValueError` for what is neither an image nor JSON of an images API.
    """
    if body.startswith(_SIGNATURES):
        return ImageAnswer(body)
    answer, is_json = decoded(body)
    if not is_json:
        answer = _events(body)
    if not isinstance(answer, dict | list):
        raise ValueError("no object")
    compute_s, peak_memory_mb = _figures(answer)
    found = list(_texts(answer, "", 0))
    for _, text in found:
        data = _image(text)
        if data is not None:
            return ImageAnswer(data, compute_s=compute_s, peak_memory_mb=peak_memory_mb)
    for key, text in found:
        url = text.strip() if key in _URL_KEYS and _is_address(text) else _linked(text)
        if url is not None:
            return ImageAnswer(url=url, compute_s=compute_s, peak_memory_mb=peak_memory_mb)
    refusal = _refusal(answer)
    if refusal is None:
        for key, text in found:
            if key in _BASE64_KEYS and text.strip():
                return ImageAnswer(_bytes(text))  # no image: whoever decodes it says so
        if isinstance(answer, list):
            raise ValueError("a list without images")
    said = next((text for key, text in found if key in _SAID_KEYS and text.strip()), "")
    return ImageAnswer(refusal=refusal, said=said)


def _events(body: bytes) -> list[Any]:
    """What a stream of events holds, the last first: unfinished images come before the finished one."""
    lines = (line[5:].strip() for line in body.splitlines() if line.startswith(b"data:"))
    return [found for found, is_json in map(decoded, lines) if is_json][::-1]


def _texts(value: Any, key: str, depth: int) -> Iterator[tuple[str, str]]:
    """All texts with the key that they, or the list around them, stand under."""
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
    """The file that a text is, as base64 or as a data URL; None for other texts."""
    if text.find(_DATA_URL, 1) > 0 and (embedded := _EMBEDDED.search(text)) is not None:
        text = embedded[0]
    head = text[:200].lstrip()
    if head[:5].lower() == "data:":
        kind, comma, content = text.lstrip().partition(",")
        if not comma:
            return None
        data = _bytes_or_none(content) if "base64" in kind.lower() else unquote_to_bytes(content)
        return data if data is not None and data.startswith(_SIGNATURES) else None
    if len(text) < _LEAST_CHARACTERS:
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
    """Base64 in either alphabet, with line breaks or without, padded or not."""
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
    """Whether a text is the address of an image, on this server or elsewhere."""
    if len(text) > MAX_ADDRESS_CHARACTERS:
        return False
    begin = text.strip()[:8].lower()
    if _FILE.fullmatch(text.strip()):
        return True
    return begin.startswith(("http://", "https://")) or (begin.startswith("/") and not begin.startswith("//"))


def _linked(text: str) -> str | None:
    """The address of the first image that a text in Markdown shows."""
    found = _LINKED.search(text) if "![" in text[:MAX_ADDRESS_CHARACTERS] else None
    return None if found is None else found[1]


def _refusal(answer: dict[str, Any] | list[Any]) -> Refusal | None:
    """Why there is no image, as far as the answer or one of its rows says so."""
    rows = answer.get("data") if isinstance(answer, dict) else answer
    for each in (answer, *(rows if isinstance(rows, list) else [rows])):
        if isinstance(each, dict) and (found := refusal_in(each)) is not None:
            return found
    return None


def _figures(answer: dict[str, Any] | list[Any]) -> tuple[float | None, float | None]:
    metrics = answer.get("metrics") if isinstance(answer, dict) else None
    if not isinstance(metrics, dict):
        return None, None
    durations = metrics.get("stage_durations")
    compute_ms = _positive(durations.get("stage_0_gen_ms")) if isinstance(durations, dict) else None
    return None if compute_ms is None else compute_ms / 1000, _positive(metrics.get("peak_memory_mb"))


def _positive(figure: Any) -> float | None:
    return float(figure) if isinstance(figure, int | float) and 0 < figure < 1e15 else None
