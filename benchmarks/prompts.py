"""Conversations for the engines; each is new, so that no cache has its reply."""

from __future__ import annotations

import base64
import io
import itertools
import random

from PIL import Image, ImageDraw

from benchmarks.pipe_server import Json

IMAGE_SIDE = 256
COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "black", "white")
NAMES = ("Ada", "Alan", "Barbara", "Claude", "Donald", "Edsger", "Frances", "Grace", "John", "Margaret")


class Prompts:
    """A source of new conversations, the same ones for the same seed."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._numbers = itertools.count(1)

    def text(self) -> list[Json]:
        """One user message of text."""
        return [user(f"{next(self._numbers)}: my name is {self._random.choice(NAMES)}. What is my name?")]

    def image(self) -> list[Json]:
        """One user message with an image and a question about it."""
        return [user("Describe this image.", self.data_url())]

    def data_url(self) -> str:
        """A coloured shape on a coloured ground, as a PNG in a data URL of about 2 kB."""
        ground, colour = self._random.sample(COLOURS, 2)
        image = Image.new("RGB", (IMAGE_SIDE, IMAGE_SIDE), ground)
        left, top = (self._random.randrange(IMAGE_SIDE // 2) for _ in range(2))
        box = (left, top, left + self._random.randrange(40, 128), top + self._random.randrange(40, 128))
        draw = ImageDraw.Draw(image)
        self._random.choice((draw.ellipse, draw.rectangle))(box, fill=colour)
        # One pixel that no other image has makes it new to every cache.
        number = next(self._numbers)
        image.putpixel((0, 0), (number & 255, number >> 8 & 255, number >> 16 & 255))
        encoded = io.BytesIO()
        image.save(encoded, "PNG")
        return "data:image/png;base64," + base64.b64encode(encoded.getvalue()).decode()


def user(text: str, image_url: str | None = None) -> Json:
    """A user message; the image comes before the text."""
    if image_url is None:
        return {"role": "user", "content": text}
    image = {"type": "image_url", "image_url": {"url": image_url}}
    return {"role": "user", "content": [image, {"type": "text", "text": text}]}
