"""Contact sheets: many small images in one PNG file."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from torch import Tensor

GAP = 2


def save_sheet(images: Tensor, path: Path, columns: int) -> None:
    """Writes images (N, 3, H, W) of -1 to 1 in rows of `columns`."""
    tiles = to_images(images)
    width, height = tiles[0].width + GAP, tiles[0].height + GAP
    sheet = Image.new("RGB", (width * columns, height * -(-len(tiles) // columns)), (90, 90, 90))
    for number, image in enumerate(tiles):
        sheet.paste(image, (number % columns * width, number // columns * height))
    sheet.save(path)


def to_images(images: Tensor) -> list[Image.Image]:
    """Images (N, 3, H, W) of -1 to 1 as images."""
    pixels = ((images.float() + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1)
    return [Image.fromarray(image.numpy()) for image in pixels]
