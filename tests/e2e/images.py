"""Images that tests draw, in the forms in which a caller may send them."""

from __future__ import annotations

import base64
import io
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

Json = dict[str, Any]
SHAPES = ("circle", "square", "triangle")
COLOURS = ("red", "green", "blue", "yellow", "black", "white", "orange", "purple", "pink", "gray")
SIZES = ((200, 200), (256, 256), (320, 240), (240, 360), (512, 512), (96, 96), (640, 480))


def drawn(background: str = "blue", shape: str | None = "circle", colour: str = "red", size: int = 240) -> Image.Image:
    """One shape in the middle of a plain background."""
    image = Image.new("RGB", (size, size), background)
    if shape is not None:
        box = (size // 4, size // 4, 3 * size // 4, 3 * size // 4)
        _draw(ImageDraw.Draw(image), shape, colour, box)
    return image


@dataclass(frozen=True)
class Scene:
    """An image of one shape, and what is on it."""

    image: Image.Image
    background: str
    colour: str
    shape: str

    def described_by(self, text: str) -> bool:
        """Whether a text names the shape and its colour."""
        return self.colour in text.lower() and self.shape in text.lower()


def fresh_scene(rng: random.Random, colour: str | None = None, shape: str | None = None) -> Scene:
    """One shape somewhere on a plain background; size, place, and whatever is not given are drawn by lot."""
    shape = shape or rng.choice(SHAPES)
    colour = colour or rng.choice(COLOURS)
    background = rng.choice([name for name in COLOURS if name != colour])
    width, height = rng.choice(SIZES)
    image = Image.new("RGB", (width, height), background)
    side = round(min(width, height) * rng.uniform(0.35, 0.8))
    left, top = rng.randint(2, width - side - 2), rng.randint(2, height - side - 2)
    _draw(ImageDraw.Draw(image), shape, colour, (left, top, left + side, top + side))
    return Scene(image, background, colour, shape)


def _draw(pen: ImageDraw.ImageDraw, shape: str, colour: str, box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    if shape == "circle":
        pen.ellipse(box, fill=colour)
    elif shape == "square":
        pen.rectangle(box, fill=colour)
    elif shape == "triangle":
        pen.polygon([((left + right) // 2, top), (left, bottom), (right, bottom)], fill=colour)


def png(image: Image.Image) -> bytes:
    """The image as the bytes of a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def as_base64(image: Image.Image) -> str:
    """The PNG as base64."""
    return base64.b64encode(png(image)).decode()


def as_data_url(image: Image.Image) -> str:
    """The PNG as a data URL."""
    return f"data:image/png;base64,{as_base64(image)}"


def image_part(image: Image.Image) -> Json:
    """A content part in MCP's own form."""
    return {"type": "image", "data": as_base64(image), "mimeType": "image/png"}


def forms(image: Image.Image, folder: Path) -> dict[str, Json]:
    """The same image as a content part, in every form that needs no network."""
    path = folder / "image.png"
    path.write_bytes(png(image))
    return {
        "path": {"type": "image", "path": str(path)},
        "base64": image_part(image),
        "data URL": {"type": "image_url", "image_url": {"url": as_data_url(image)}},
        "file URL": {"type": "image_url", "image_url": {"url": path.as_uri()}},
    }


def asked(text: str, *parts: Json) -> list[Json]:
    """One user message with a text and images."""
    return [{"role": "user", "content": [{"type": "text", "text": text}, *parts]}]
