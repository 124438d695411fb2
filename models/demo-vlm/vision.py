"""Trains the vision tower by classification, before (and, at a lower weight, during) training on dialogues.

The loss of the language model alone is a weak teacher for a tower that starts from random weights; naming what lies on
each patch is a strong one. The heads here are used in training only and are not part of the published model.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from architecture import GRID, PATCH_SIZE, VISION_WIDTH
from bank import IGNORED, Bank
from scenes import COLOUR_NAMES, MAX_SHAPES, SHAPES
from torch import Tensor, nn
from torch.nn import functional

Labels = dict[str, Tensor]

# The kind of a shape is by far the slowest to be learnt, and centres are few among the patches.
HEAD_WEIGHTS = {"kind": 4.0, "colour": 1.0, "centre": 3.0, "background": 1.0, "count": 1.0, "present": 4.0}
# Most patches are empty and easily seen to be so.
EMPTY_PATCH_WEIGHTS = torch.tensor([0.15] + [1.0] * len(SHAPES))


class SceneHeads(nn.Module):
    """Linear readings of the tower: per patch the kind, colour and centre; per image the background, the
    count and which kinds are there."""

    def __init__(self) -> None:
        super().__init__()
        self.kind = nn.Linear(VISION_WIDTH, 1 + len(SHAPES))
        self.colour = nn.Linear(VISION_WIDTH, len(COLOUR_NAMES))
        self.centre = nn.Linear(VISION_WIDTH, 2)
        self.background = nn.Linear(VISION_WIDTH, len(COLOUR_NAMES))
        self.count = nn.Linear(VISION_WIDTH, MAX_SHAPES + 1)
        self.present = nn.Linear(VISION_WIDTH, 2 * len(SHAPES))

    def forward(self, patches: Tensor) -> Labels:
        """Logits by label name, from the tower's output of shape (images, patches, VISION_WIDTH)."""
        pooled = patches.mean(dim=1)
        return {
            "kind": self.kind(patches),
            "colour": self.colour(patches),
            "centre": self.centre(patches),
            "background": self.background(pooled),
            "count": self.count(pooled),
            "present": self.present(pooled).unflatten(1, (len(SHAPES), 2)),
        }


def whiten_patches(embedding: nn.Conv2d, bank: Bank, images: int = 1500) -> None:
    """Initialises the patch embedding with the whitened principal components of the bank's patches.

    Nearly all the variance of such patches is their mean colour, thousands of times that of an edge. Random filters
    pass that on, and a tower then needs many more steps before it tells a corner from a curve.
    """
    pixels = torch.from_numpy(bank.pixels[:images].astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)
    patches = functional.unfold(pixels, PATCH_SIZE, stride=PATCH_SIZE).transpose(1, 2).flatten(0, 1)
    mean = patches.mean(dim=0)
    variances, components = torch.linalg.eigh(torch.cov((patches - mean).T.double()))
    variances, components = variances.flip(0)[:VISION_WIDTH], components.flip(1)[:, :VISION_WIDTH]
    # The fourth component is the strongest that is not a plain colour; a hundredth of it is where noise begins.
    filters = (0.5 * components / (variances + variances[3] / 100).sqrt()).T.float()
    with torch.no_grad():
        embedding.weight.copy_(filters.reshape(embedding.weight.shape))
        assert embedding.bias is not None
        embedding.bias.copy_(-(filters @ mean))


def orientation(generator: np.random.Generator) -> tuple[int, bool]:
    """A random number of quarter turns and whether to mirror after them: the names of what is seen survive both."""
    return int(generator.integers(4)), bool(generator.integers(2))


def image_batch(bank: Bank, rows: npt.NDArray[np.int64], quarter_turns: int, mirrored: bool) -> tuple[Tensor, Labels]:
    """Normalised pixels (images, 3, side, side) and labels of `rows`, oriented as `Scene.oriented` does it."""

    def orient(array: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        array = np.rot90(array, quarter_turns, axes=(1, 2))
        return np.ascontiguousarray(array[:, :, ::-1] if mirrored else array)

    pixels = torch.from_numpy(orient(bank.pixels[rows])).permute(0, 3, 1, 2).float() / 127.5 - 1
    dense = {"kind": bank.patch_kind, "colour": bank.patch_colour, "centre": bank.patch_centre}
    labels = {
        name: torch.from_numpy(orient(array[rows])).long().reshape(len(rows), GRID * GRID)
        for name, array in dense.items()
    }
    scenes = [bank.scenes[row] for row in rows]
    labels["background"] = torch.tensor([COLOUR_NAMES.index(scene.background) for scene in scenes])
    labels["count"] = torch.tensor([len(scene.shapes) for scene in scenes])
    kinds = [{shape.kind for shape in scene.shapes} for scene in scenes]
    labels["present"] = torch.tensor([[int(shape in present) for shape in SHAPES] for present in kinds])
    return pixels.contiguous(), labels


def classification_loss(logits: Labels, labels: Labels) -> Tensor:
    """The weighted mean of the cross-entropies of all heads."""
    total = torch.zeros(())
    for name, weight in HEAD_WEIGHTS.items():
        flat = logits[name].flatten(0, -2)
        classes = EMPTY_PATCH_WEIGHTS if name == "kind" else None
        losses = functional.cross_entropy(flat, labels[name].flatten(), weight=classes, ignore_index=IGNORED)
        total = total + weight * losses
    return total / sum(HEAD_WEIGHTS.values())


@torch.no_grad()
def classification_report(logits: Labels, labels: Labels) -> dict[str, float]:
    """The share of right answers by head; the kind and colour of a shape are read at its centre."""
    at_centre = labels["centre"] == 1
    report = {}
    for name in logits:
        right = (logits[name].argmax(-1) == labels[name]).float()
        known = labels[name] != IGNORED
        chosen = known & at_centre if name in ("kind", "colour") else known
        report[name] = right[chosen].mean().item()
    found = (logits["centre"].argmax(-1) == labels["centre"]).all(dim=1)
    report["all centres"] = found.float().mean().item()
    return report
