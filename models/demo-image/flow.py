"""The second stage: text encoder and transformer learn to turn noise into the image that a prompt describes."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from captions import caption
from components import TOKEN_CHANNELS, TOKEN_PIXELS, from_tokens, positions
from latents import Bank, Size, denormalised, noise_for
from prompting import Heard, listen
from sheets import save_sheet
from stages import Stage, run_stage
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerFast
from vocabulary import render
from world import COLOUR_NAMES, SHAPES, Scenes

# Noise levels of the four steps that the schedule in `components.py` makes.
LEVELS = (1.0, 0.75, 0.5, 0.25)
# How often a batch trains exactly these levels; otherwise any, so that other step counts work as well.
SERVED_SHARE = 0.75
# In the second half of the stage, how often it starts from where the model's own steps have led.
OWN_STEPS_SHARE = 0.35
# Only its corners tell a square from a circle: tokens on the shape's edge weigh up to this much more than others.
EDGE_WEIGHT = 3.0
# The weight of predicting the prompt's names from its last token. Few pixels depend on some of the words.
NAMING_WEIGHT = 0.05
TOKENS_PER_STEP = 20 * 64
SHOWN = (
    "a red circle on a blue background",
    "Green square, white background",
    "draw a yellow triangle on black",
    "a pink circle on a gray background.",
    "an orange triangle on a purple background",
    "a blue background with a white square",
    "a black circle",
    "the gray triangle on the orange background",
)


@dataclass(frozen=True)
class Painter:
    """The parts that together turn prompts into images."""

    tokenizer: PreTrainedTokenizerFast
    text_encoder: Any
    transformer: Any
    autoencoder: Any

    def velocity(self, heard: Heard, tokens: Tensor, levels: Tensor) -> Tensor:
        """The direction from image to noise at `tokens` (N, C, h, w), whose noise levels (N,) are 0 to 1."""
        _, channels, height, width = tokens.shape
        text_places, image_places = positions(heard.places, height, width)
        weights = functional.pad(heard.weights, (0, height * width))
        said = self.transformer(
            hidden_states=tokens.flatten(2).transpose(1, 2),
            encoder_hidden_states=heard.tokens,
            timestep=levels,
            img_ids=image_places,
            txt_ids=text_places,
            guidance=None,
            joint_attention_kwargs={"attention_mask": weights},
            return_dict=False,
        )[0]
        result: Tensor = said.float().transpose(1, 2).reshape(-1, channels, height, width)
        return result

    def step(self, heard: Heard, tokens: Tensor, level: float, following: float) -> Tensor:
        """One Euler step from one noise level to the following."""
        velocity = self.velocity(heard, tokens, torch.full((len(tokens),), level))
        return tokens + (following - level) * velocity

    def tokens(self, prompts: list[str], noise: Tensor, steps: int) -> Tensor:
        """The result of this many even steps from noise (N, C, h, w)."""
        heard = listen(self.text_encoder, render(self.tokenizer, prompts))
        tokens = noise
        for level, following in pairwise(torch.linspace(1, 0, steps + 1).tolist()):
            tokens = self.step(heard, tokens, level, following)
        return tokens

    def images(self, prompts: list[str], size: Size, generator: torch.Generator, steps: int = 4) -> Tensor:
        """Generates an image for each prompt, (N, 3, height, width) of -1 to 1."""
        width, height = (side // TOKEN_PIXELS for side in size)
        with torch.no_grad():
            noise = torch.randn(len(prompts), TOKEN_CHANNELS, height, width, generator=generator)
            tokens = self.tokens(prompts, noise, steps)
            seen: Tensor = self.autoencoder.decode(from_tokens(denormalised(self.autoencoder, tokens))).sample
        return seen


def train_flow(
    painter: Painter,
    banks: Mapping[Size, Bank],
    shares: Mapping[Size, float],
    stage: Stage,
    folder: Path,
    seed: int,
    on_checkpoint: Callable[[], None],
) -> None:
    """Trains until the stage ends, on batches of one size each; every checkpoint writes `flow.png`."""
    sizes, weights = list(shares), torch.tensor(list(shares.values()))

    def loss_of_step(progress: float, generator: torch.Generator) -> Tensor:
        size = sizes[int(torch.multinomial(weights, 1, generator=generator))]
        return flow_loss(painter, banks[size], progress, generator)

    def look(step: int) -> None:
        generator = torch.Generator().manual_seed(1)
        rows = [painter.images(list(SHOWN), sizes[0], generator, steps) for steps in (4, 4, 4, 1, 8)]
        save_sheet(torch.cat(rows), folder / "flow.png", columns=len(SHOWN))
        on_checkpoint()

    # On a CPU the backward pass of the usual attention is slow in bfloat16.
    painter.transformer.set_attention_backend("_native_math")
    modules = nn.ModuleDict({"text_encoder": painter.text_encoder, "transformer": painter.transformer})
    run_stage(stage, modules, loss_of_step, folder, seed, look)


def flow_loss(painter: Painter, bank: Bank, progress: float, generator: torch.Generator) -> Tensor:
    """Squared error of the velocity, on the straight line to the image or after some of the model's own steps."""
    _, _, height, width = bank.tokens.shape
    rows = torch.randint(len(bank.tokens), (TOKENS_PER_STEP // (height * width),), generator=generator)
    scenes, images = bank.scenes[rows], bank.tokens[rows]
    prompts = render(painter.tokenizer, captions_of(scenes, generator))
    noise = noise_for(scenes.numbers, images.shape, generator)
    served = torch.rand((), generator=generator) < SERVED_SHARE
    own = served and progress > 0.5 and torch.rand((), generator=generator) < OWN_STEPS_SHARE
    weights = edge_weights(images)
    with torch.autocast("cpu", torch.bfloat16):
        heard = listen(painter.text_encoder, prompts, generator)
        if own:
            taken = int(torch.randint(1, len(LEVELS), (), generator=generator))
            tokens, levels = _own_steps(painter, heard, noise, taken), torch.full((len(rows),), LEVELS[taken])
            # Errors of earlier steps are large compared with the remaining noise.
            weights = weights * LEVELS[taken] ** 2
        else:
            any_level = 0.02 + 0.98 * torch.rand(len(rows), generator=generator)
            one_of_four = torch.tensor(LEVELS)[torch.randint(len(LEVELS), (len(rows),), generator=generator)]
            levels = one_of_four if served else any_level
            share = levels[:, None, None, None]
            tokens = (1 - share) * images + share * noise
        velocity = painter.velocity(heard, tokens, levels)
    errors = (velocity - (tokens - images) / levels[:, None, None, None]).square()
    return (weights * errors).mean() + NAMING_WEIGHT * naming_loss(heard, scenes)


def edge_weights(images: Tensor) -> Tensor:
    """Weights (N, 1, h, w) of image tokens, mean 1: more for tokens that differ from adjacent ones."""
    padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
    change = (images - functional.avg_pool2d(padded, 3, stride=1)).square().mean(1, keepdim=True).sqrt()
    weights = 1 + EDGE_WEIGHT * change / change.amax((2, 3), keepdim=True).clamp(min=1e-3)
    return weights / weights.mean((2, 3), keepdim=True)


def naming_loss(heard: Heard, scenes: Scenes) -> Tensor:
    """Cross-entropy of the names, of which the first features of the end of the prompt are taken for logits."""
    said = heard.ends.float()
    names = ((scenes.kinds, len(SHAPES)), (scenes.colours, len(COLOUR_NAMES)), (scenes.backgrounds, len(COLOUR_NAMES)))
    loss, start = torch.zeros(()), 0
    for labels, count in names:
        loss = loss + functional.cross_entropy(said[:, start : start + count], labels)
        start += count
    return loss


def captions_of(scenes: Scenes, generator: torch.Generator) -> list[str]:
    """A random prompt for every scene."""
    rng = random.Random(int(torch.randint(2**60, (), generator=generator)))
    names = zip(scenes.colours.tolist(), scenes.kinds.tolist(), scenes.backgrounds.tolist(), strict=True)
    return [
        caption(rng, COLOUR_NAMES[colour], SHAPES[kind], COLOUR_NAMES[background]) for colour, kind, background in names
    ]


def _own_steps(painter: Painter, heard: Heard, noise: Tensor, taken: int) -> Tensor:
    tokens = noise
    with torch.no_grad():
        for level, following in pairwise(LEVELS[: taken + 1]):
            tokens = painter.step(heard, tokens, level, following)
    return tokens
