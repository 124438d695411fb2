"""The first stage: an autoencoder that turns images into latents and back."""

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

IMAGES_PER_STEP = 8
# Of the sum over an image's latents: just enough to keep them near each other.
DIVERGENCE_WEIGHT = 2e-6
# Edges are few pixels; this makes them count.
EDGE_WEIGHT = 0.5
# Three of the channels are trained to be a thumbnail of the image. Otherwise colours take far longer to learn than
# shapes; a thumbnail is also easy for the transformer to generate.
THUMBNAIL_WEIGHT = 1.0
# The decoder is trained with noise of about the transformer's errors, as a share of the latents' spread.
FORGIVEN_SHARE = 0.1
# Colours are learned first, from small images, which cost little; then edges, at the served sizes.
SMALL, SMALL_PROGRESS = (64, 64), 0.4
SIZES = ((128, 128), (128, 128), (160, 96), (96, 160))


def train_autoencoder(autoencoder: Any, stage: Stage, folder: Path, seed: int) -> None:
    """Trains until the stage ends; every checkpoint writes `autoencoder.png`: images and their reconstructions."""

    def loss_of_step(progress: float, generator: torch.Generator) -> Tensor:
        width, height = SIZES[int(torch.randint(len(SIZES), (), generator=generator))]
        half = IMAGES_PER_STEP // 2
        if progress < SMALL_PROGRESS:
            width, height = SMALL
        images = [paint(random_scenes(half, generator), width, height), paint_clutter(half, width, height, generator)]
        return reconstruction_loss(autoencoder, torch.cat(images), generator)

    def look(step: int) -> None:
        generator = torch.Generator().manual_seed(1)
        images = torch.cat([paint(random_scenes(8, generator), 128, 128), paint_clutter(4, 128, 128, generator)])
        with torch.no_grad():
            seen = autoencoder.decode(autoencoder.encode(images).latent_dist.mean).sample
        save_sheet(torch.cat([images, seen]), folder / "autoencoder.png", columns=12)
        print(f"reconstruction error at step {step}: {(seen - images).abs().mean():.4f}", flush=True)

    run_stage(stage, nn.ModuleDict({"autoencoder": autoencoder}), loss_of_step, folder, seed, look)


def reconstruction_loss(autoencoder: Any, images: Tensor, generator: torch.Generator) -> Tensor:
    """Absolute error of pixels and of the differences between adjacent pixels, plus a small KL divergence."""
    with torch.autocast("cpu", torch.bfloat16):
        posterior = autoencoder.encode(images).latent_dist
        mean, spread = posterior.mean.float(), posterior.mean.detach().float().std()
        noise = torch.randn(mean.shape, generator=generator)
        latents = mean + noise * (posterior.std.float() + FORGIVEN_SHARE * spread)
        seen = autoencoder.decode(latents).sample.float()
    thumbnails = functional.avg_pool2d(images, LATENT_PIXELS)
    taught = functional.mse_loss(mean[:, :3], thumbnails)
    edges = sum((seen.diff(dim=axis) - images.diff(dim=axis)).abs().mean() for axis in (2, 3))
    colours = (seen - images).abs().mean() + functional.mse_loss(seen, images)
    divergence = posterior.kl().mean()
    return colours + EDGE_WEIGHT * edges + THUMBNAIL_WEIGHT * taught + DIVERGENCE_WEIGHT * divergence


def set_latent_statistics(autoencoder: Any, latents: Tensor) -> None:
    """Stores mean and variance of the tokens of `latents`, by which the pipeline scales the transformer's output."""
    tokens = to_tokens(latents)
    autoencoder.bn.running_mean.copy_(tokens.mean((0, 2, 3)))
    autoencoder.bn.running_var.copy_(tokens.var((0, 2, 3)))
