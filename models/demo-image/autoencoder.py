"""The first stage: an autoencoder that turns pictures into latents and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from components import LATENT_PIXELS, to_tokens
from sheets import save_sheet
from stages import Stage, run_stage
from torch import Tensor, nn
from torch.nn import functional
from world import paint, paint_clutter, random_scenes

PICTURES_PER_STEP = 8
# Of the sum over a picture's latents: just enough to keep them near each other.
DIVERGENCE_WEIGHT = 2e-6
# Edges are few pixels; this makes them count.
EDGE_WEIGHT = 0.5
# Three of the channels are taught to be a thumbnail of the picture. Otherwise colours take far longer to be found than
# shapes; and a thumbnail is easy for the transformer to paint.
THUMBNAIL_WEIGHT = 1.0
# The decoder learns to forgive errors of the transformer of about this size, as a share of the latents' spread.
FORGIVEN_SHARE = 0.1
# Colours are learnt first, from small pictures, which cost little; then edges at the sizes that are served.
SMALL, SMALL_PROGRESS = (64, 64), 0.4
SIZES = ((128, 128), (128, 128), (160, 96), (96, 160))


def train_autoencoder(autoencoder: Any, stage: Stage, folder: Path, seed: int) -> None:
    """Trains until the stage ends; every checkpoint leaves `autoencoder.png`: pictures and their reconstructions."""

    def loss_of_step(progress: float, generator: torch.Generator) -> Tensor:
        width, height = SIZES[int(torch.randint(len(SIZES), (), generator=generator))]
        half = PICTURES_PER_STEP // 2
        if progress < SMALL_PROGRESS:
            width, height = SMALL
        pictures = [paint(random_scenes(half, generator), width, height), paint_clutter(half, width, height, generator)]
        return reconstruction_loss(autoencoder, torch.cat(pictures), generator)

    def look(step: int) -> None:
        generator = torch.Generator().manual_seed(1)
        pictures = torch.cat([paint(random_scenes(8, generator), 128, 128), paint_clutter(4, 128, 128, generator)])
        with torch.no_grad():
            seen = autoencoder.decode(autoencoder.encode(pictures).latent_dist.mean).sample
        save_sheet(torch.cat([pictures, seen]), folder / "autoencoder.png", columns=12)
        print(f"reconstruction error at step {step}: {(seen - pictures).abs().mean():.4f}", flush=True)

    run_stage(stage, nn.ModuleDict({"autoencoder": autoencoder}), loss_of_step, folder, seed, look)


def reconstruction_loss(autoencoder: Any, pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Absolute error of pixels and of the steps between neighbours, and a little of the usual divergence."""
    with torch.autocast("cpu", torch.bfloat16):
        posterior = autoencoder.encode(pictures).latent_dist
        mean, spread = posterior.mean.float(), posterior.mean.detach().float().std()
        noise = torch.randn(mean.shape, generator=generator)
        latents = mean + noise * (posterior.std.float() + FORGIVEN_SHARE * spread)
        seen = autoencoder.decode(latents).sample.float()
    thumbnails = functional.avg_pool2d(pictures, LATENT_PIXELS)
    taught = functional.mse_loss(mean[:, :3], thumbnails)
    edges = sum((seen.diff(dim=axis) - pictures.diff(dim=axis)).abs().mean() for axis in (2, 3))
    colours = (seen - pictures).abs().mean() + functional.mse_loss(seen, pictures)
    divergence = posterior.kl().mean()
    return colours + EDGE_WEIGHT * edges + THUMBNAIL_WEIGHT * taught + DIVERGENCE_WEIGHT * divergence


def set_latent_statistics(autoencoder: Any, latents: Tensor) -> None:
    """Stores mean and variance of the tokens of `latents`, by which the pipeline scales what the transformer says."""
    tokens = to_tokens(latents)
    autoencoder.bn.running_mean.copy_(tokens.mean((0, 2, 3)))
    autoencoder.bn.running_var.copy_(tokens.var((0, 2, 3)))
