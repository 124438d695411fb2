"""The smallest image and the smallest sound that are what they say, and blocks of content with them."""

from __future__ import annotations

from base64 import b64decode, b64encode

from mcp_protocol.jsonrpc import Json
from mcp_protocol.tools.toolbox import image_block

RED_DOT = b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR42mP4z8AAAAMBAQD3A0FDAAAAAElFTkSuQmCC")
"""A PNG of one red pixel."""
SILENCE = b64decode("UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQIAAAAAAA==")
"""A WAV of one silent sample, 16 bits at 8 kHz."""


def red_dot_block() -> Json:
    """The image as content."""
    return image_block(RED_DOT, "image/png")


def sound_block() -> Json:
    """The sound as content."""
    return {"type": "audio", "data": b64encode(SILENCE).decode("ascii"), "mimeType": "audio/wav"}


def resource_block(uri: str, mime_type: str, text: str) -> Json:
    """A text resource as content."""
    return {"type": "resource", "resource": {"uri": uri, "mimeType": mime_type, "text": text}}
