"""Pictures that tests draw, in the forms in which a caller may send them."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

Json = dict[str, Any]


def drawn(background: str = "blue", shape: str | None = "circle", colour: str = "red", size: int = 240) -> Image.Image:
    """One shape in the middle of a plain background."""
    picture = Image.new("RGB", (size, size), background)
    pen = ImageDraw.Draw(picture)
    box = (size // 4, size // 4, 3 * size // 4, 3 * size // 4)
    if shape == "circle":
        pen.ellipse(box, fill=colour)
    elif shape == "square":
        pen.rectangle(box, fill=colour)
    elif shape == "triangle":
        pen.polygon([(size // 2, box[1]), (box[0], box[3]), (box[2], box[3])], fill=colour)
    return picture


def png(picture: Image.Image) -> bytes:
    """The picture as the bytes of a PNG file."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def as_base64(picture: Image.Image) -> str:
    """The PNG as base64."""
    return base64.b64encode(png(picture)).decode()


def as_data_url(picture: Image.Image) -> str:
    """The PNG as a data URL."""
    return f"data:image/png;base64,{as_base64(picture)}"


def image_part(picture: Image.Image) -> Json:
    """A content part in MCP's own form."""
    return {"type": "image", "data": as_base64(picture), "mimeType": "image/png"}


def forms(picture: Image.Image, folder: Path) -> dict[str, Json]:
    """The same picture as a content part, in every form that needs no network."""
    path = folder / "picture.png"
    path.write_bytes(png(picture))
    return {
        "path": {"type": "image", "path": str(path)},
        "base64": image_part(picture),
        "data URL": {"type": "image_url", "image_url": {"url": as_data_url(picture)}},
        "file URL": {"type": "image_url", "image_url": {"url": path.as_uri()}},
    }


def asked(text: str, *parts: Json) -> list[Json]:
    """One user message with a text and pictures."""
    return [{"role": "user", "content": [{"type": "text", "text": text}, *parts]}]
