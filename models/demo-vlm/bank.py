"""The bank: scenes drawn once, squashed to the model's input size and kept on disk for every training stage.

Drawing costs more than reading, and one image serves many questions. Rows are drawn from seeds `first_seed + row`,
so a bank is the same wherever it is built.
"""

from __future__ import annotations

import multiprocessing
import pickle
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from architecture import GRID, IMAGE_SIZE, PATCH_SIZE, image_processor, squash
from PIL import Image, ImageDraw
from scenes import COLOUR_NAMES, SHAPES, Scene, draw_scene

IGNORED = 255
"""Label of a patch that a shape covers only partly: neither answer would be wrong."""

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Bank:
    """Images (rows, IMAGE_SIZE, IMAGE_SIZE, 3), their scenes and dense labels (rows, GRID, GRID)."""

    pixels: Pixels
    scenes: list[Scene]
    patch_kind: Pixels
    patch_colour: Pixels
    patch_centre: Pixels

    def __len__(self) -> int:
        return len(self.scenes)

    def easy_rows(self, min_extent: float = 0.3) -> npt.NDArray[np.int64]:
        """Rows whose shapes all span at least that share of the image's width and height."""

        def extent(scene: Scene) -> float:
            return min((min(np.ptp(np.array(shape.outline), axis=0)) for shape in scene.shapes), default=0.0)

        return np.array([row for row, scene in enumerate(self.scenes) if extent(scene) >= min_extent])


def label_patches(scene: Scene) -> tuple[Pixels, Pixels, Pixels]:
    """For each patch: the kind of shape on it (0 none), that shape's colour, whether a shape's centre lies in it."""
    canvas = Image.new("L", (IMAGE_SIZE, IMAGE_SIZE), 0)
    pen = ImageDraw.Draw(canvas)
    kind = np.zeros((GRID, GRID), np.uint8)
    colour = np.full((GRID, GRID), IGNORED, np.uint8)
    centre = np.zeros((GRID, GRID), np.uint8)
    for number, shape in enumerate(scene.shapes, start=1):
        pen.polygon([(x * IMAGE_SIZE, y * IMAGE_SIZE) for x, y in shape.outline], fill=number)
        x, y = shape.centre
        centre[min(GRID - 1, int(y * GRID)), min(GRID - 1, int(x * GRID))] = 1
    blocks = np.asarray(canvas).reshape(GRID, PATCH_SIZE, GRID, PATCH_SIZE)
    for number, shape in enumerate(scene.shapes, start=1):
        covered = (blocks == number).mean(axis=(1, 3))
        kind[(covered > 0.03) & (covered < 0.25)] = IGNORED
        kind[covered >= 0.25] = 1 + SHAPES.index(shape.kind)
        colour[covered >= 0.25] = COLOUR_NAMES.index(shape.colour)
    return kind, colour, centre


def _draw_row(seed: int) -> tuple[Scene, Pixels, Pixels, Pixels, Pixels]:
    scene, image = draw_scene(random.Random(seed))
    return scene, squash(image), *label_patches(scene)


def check_squash(samples: int = 32) -> None:
    """Raises `AssertionError` unless `squash` and the saved image processor give the same numbers."""
    processor = image_processor()
    for seed in range(samples):
        _, image = draw_scene(random.Random(seed))
        expected = processor(image, return_tensors="np")["pixel_values"][0, 0]
        actual = (squash(image).astype(np.float32).transpose(2, 0, 1) / 255 - 0.5) / 0.5
        np.testing.assert_allclose(actual, expected, atol=1e-6)


def load_bank(folder: Path, rows: int, first_seed: int, workers: int) -> Bank:
    """The bank of `rows` images in `folder`, drawn there first where it is missing."""
    pixels_path, labels_path = folder / f"bank-{rows}-{first_seed}.npy", folder / f"bank-{rows}-{first_seed}.pickle"
    if not labels_path.exists():
        check_squash()
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
            pixels_path, mode="w+", dtype=np.uint8, shape=(rows, IMAGE_SIZE, IMAGE_SIZE, 3)
        )
        scenes: list[Scene] = []
        labels = np.zeros((3, rows, GRID, GRID), np.uint8)
        with multiprocessing.get_context("spawn").Pool(workers) as pool:
            seeds = range(first_seed, first_seed + rows)
            for row, (scene, image, *patches) in enumerate(pool.imap(_draw_row, seeds, chunksize=64)):
                scenes.append(scene)
                pixels[row] = image
                labels[:, row] = patches
        pixels.flush()
        temporary = labels_path.with_suffix(".tmp")
        temporary.write_bytes(pickle.dumps((scenes, labels)))
        temporary.rename(labels_path)
    scenes, labels = pickle.loads(labels_path.read_bytes())
    return Bank(np.load(pixels_path, mmap_mode="r"), scenes, *labels)
