"""Contact sheets: many small pictures as one PNG file, for looking at."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from torch import Tensor

GAP = 2


def save_sheet(pictures: Tensor, path: Path, columns: int) -> None:
    """Writes pictures (N, 3, H, W) of -1 to 1 in rows of `columns`."""
    images = to_images(pictures)
    width, height = images[0].width + GAP, images[0].height + GAP
    sheet = Image.new("RGB", (width * columns, height * -(-len(images) // columns)), (90, 90, 90))
    for number, image in enumerate(images):
        sheet.paste(image, (number % columns * width, number // columns * height))
    sheet.save(path)


def to_images(pictures: Tensor) -> list[Image.Image]:
    """Pictures (N, 3, H, W) of -1 to 1 as images."""
    pixels = ((pictures.float() + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1)
    return [Image.fromarray(picture.numpy()) for picture in pixels]
