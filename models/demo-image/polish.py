"""The third stage: only the decoder is trained, for sharp edges, half of the time on generated latents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from components import from_tokens
from flow import Painter, captions_of
from latents import Bank, Size, denormalised, noise_for
from sheets import save_sheet
from stages import Stage, run_stage
from torch import Tensor, nn
from world import paint

IMAGES_PER_STEP = 8
# As in the first stage: errors of the transformer to forgive, as a share of the tokens' spread.
FORGIVEN = 0.05
STEPS = 4


def polish_decoder(
    painter: Painter,
    banks: Mapping[Size, Bank],
    shares: Mapping[Size, float],
    stage: Stage,
    folder: Path,
    seed: int,
    on_checkpoint: Callable[[], None],
) -> None:
    """Trains until the stage ends; every checkpoint writes `polish.png`: painted, decoded and generated images."""
    sizes, weights = list(shares), torch.tensor(list(shares.values()))
    autoencoder = painter.autoencoder.to(memory_format=torch.channels_last)
    modules = nn.ModuleDict({"decoder": autoencoder.decoder, "entrance": autoencoder.post_quant_conv})
    modules.requires_grad_(True)

    def loss_of_step(progress: float, generator: torch.Generator) -> Tensor:
        size = sizes[int(torch.multinomial(weights, 1, generator=generator))]
        images, tokens = examples(painter, banks[size], size, IMAGES_PER_STEP, generator)
        with torch.autocast("cpu", torch.bfloat16):
            latents = from_tokens(denormalised(autoencoder, tokens)).contiguous(memory_format=torch.channels_last)
            seen = autoencoder.decode(latents).sample.float()
        # Where an edge may lie here or there, absolute error alone is least with a sharp edge in between. Squares, or
        # the steps between neighbours, would ask for a blur.
        return (seen - images).abs().mean()

    def look(step: int) -> None:
        images, tokens = examples(painter, banks[sizes[0]], sizes[0], 20, torch.Generator().manual_seed(1))
        with torch.no_grad():
            seen = autoencoder.decode(from_tokens(denormalised(autoencoder, tokens))).sample
        rows = [part[half] for half in (slice(10), slice(10, 20)) for part in (images, seen)]
        save_sheet(torch.cat(rows), folder / "polish.png", columns=10)
        on_checkpoint()

    run_stage(stage, modules, loss_of_step, folder, seed, look)
    modules.requires_grad_(False)


def examples(painter: Painter, bank: Bank, size: Size, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images and their tokens: in the first half those of the encoder with a little noise, then generated ones."""
    width, height = size
    rows = torch.randint(len(bank.tokens), (count,), generator=generator)
    scenes, encoded = bank.scenes[rows], bank.tokens[rows]
    half = count // 2
    drawn = scenes[half:]
    noise = noise_for(drawn.numbers, encoded[half:].shape, generator)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        generated = painter.tokens(captions_of(drawn, generator), noise, STEPS)
    seen = encoded[:half] + FORGIVEN * torch.randn(encoded[:half].shape, generator=generator)
    return paint(scenes, width, height), torch.cat([seen, generated])
