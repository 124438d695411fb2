"""Banks of scenes with their encoded images, and the noise that belongs to a scene."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from autoencoder import set_latent_statistics
from components import TOKEN_PIXELS, to_tokens
from stages import idle_cores
from torch import Tensor
from world import Scenes, paint, random_scenes

ENCODED_AT_ONCE = 16
# Beyond this many standard deviations all noise means the same.
FURTHEST = 3.0

Size = tuple[int, int]


@dataclass(frozen=True)
class Bank:
    """Scenes and what the transformer should turn noise into for each: tokens (N, C, h, w), mean 0 and variance 1."""

    scenes: Scenes
    tokens: Tensor


def load_banks(autoencoder: Any, counts: Mapping[Size, int], folder: Path, seed: int) -> dict[Size, Bank]:
    """Banks for images of every (width, height), kept in `folder`; sets the latent statistics of `autoencoder`.

    The statistics are those of the first size.
    """
    found = {size: _load_latents(autoencoder, size, count, folder, seed) for size, count in counts.items()}
    set_latent_statistics(autoencoder, next(iter(found.values()))[1])
    return {size: Bank(scenes, normalised(autoencoder, latents)) for size, (scenes, latents) in found.items()}


def normalised(autoencoder: Any, latents: Tensor) -> Tensor:
    """Latents as tokens, scaled as the served pipeline expects them."""
    mean, deviation = _statistics(autoencoder)
    return (to_tokens(latents) - mean) / deviation


def denormalised(autoencoder: Any, tokens: Tensor) -> Tensor:
    """Tokens in the scale of the autoencoder's latents, still as tokens."""
    mean, deviation = _statistics(autoencoder)
    return tokens * deviation + mean


def noise_for(numbers: Tensor, shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Noise of that shape (N, C, h, w) that belongs to scenes with these numbers (N, k).

    Normal noise whose mean in channel k encodes the scene's k-th number. Over all scenes it is white noise, but each
    noise leads to one image only, so that the path between them is straight and few steps suffice.
    """
    noise = torch.randn(shape, generator=generator)
    places = shape[2] * shape[3]
    count = numbers.shape[1]
    said = torch.special.ndtri(numbers.clamp(1e-6, 1 - 1e-6)).clamp(-FURTHEST, FURTHEST) / places**0.5
    noise[:, :count] += (said - noise[:, :count].mean((2, 3)))[:, :, None, None]
    return noise


def _statistics(autoencoder: Any) -> tuple[Tensor, Tensor]:
    mean, variance = autoencoder.bn.running_mean, autoencoder.bn.running_var
    deviation = torch.sqrt(variance + autoencoder.config.batch_norm_eps)
    return mean[:, None, None], deviation[:, None, None]


def _load_latents(autoencoder: Any, size: Size, count: int, folder: Path, seed: int) -> tuple[Scenes, Tensor]:
    """The scenes and latents of an earlier run where there are any, else new ones."""
    width, height = size
    path = folder / f"bank-{width}x{height}.pt"
    scenes = random_scenes(count, torch.Generator().manual_seed(seed * 7919 + width * 1009 + height))
    if path.exists():
        latents: Tensor = torch.load(path, weights_only=True)
        return scenes[: len(latents)], latents
    autoencoder.to(memory_format=torch.channels_last)
    batches, cores = [], torch.get_num_threads()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for start in range(0, count, ENCODED_AT_ONCE):
            torch.set_num_threads(idle_cores(cores))
            images = paint(scenes[start : start + ENCODED_AT_ONCE], width, height)
            images = images.contiguous(memory_format=torch.channels_last)
            batches.append(autoencoder.encode(images).latent_dist.mean.float().contiguous())
    torch.set_num_threads(cores)
    latents = torch.cat(batches)
    torch.save(latents, path)
    print(f"{count} pictures of {width}x{height} in {TOKEN_PIXELS} pixel tokens encoded", flush=True)
    return scenes, latents
