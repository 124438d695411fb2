"""The transformer's text input: the states of the text encoder's layers, and the weight of the padding.

The served pipeline pads every prompt to 512 tokens and lets the transformer attend to all of them. Hundreds of nearly
equal tokens would waste training time: here a few represent all, with a weight of how many each represents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from components import TEXT_SLOTS
from torch import Tensor

STAND_INS = 4


@dataclass(frozen=True)
class Heard:
    """Text tokens of a batch (N, L, D), their places in the text (L,) and weights for the attention (N, 1, 1, L).

    `ends` is what the encoder's last layer makes of each prompt's last token (N, d).
    """

    tokens: Tensor
    places: Tensor
    weights: Tensor
    ends: Tensor


def listen(text_encoder: Any, prompts: list[list[int]], generator: torch.Generator | None = None) -> Heard:
    """Encodes prompts given as token ids; without a generator the stand-ins for the padding have fixed places."""
    pad = text_encoder.config.pad_token_id
    longest = max(len(prompt) for prompt in prompts)
    stride = (TEXT_SLOTS - longest) / STAND_INS
    jitter = torch.full((STAND_INS,), 0.5) if generator is None else torch.rand(STAND_INS, generator=generator)
    stand_ins = (longest + stride * (torch.arange(STAND_INS) + jitter)).long()
    places = torch.cat([torch.arange(longest), stand_ins])
    ids = torch.tensor([prompt + [pad] * (len(places) - len(prompt)) for prompt in prompts])
    lengths = torch.tensor([len(prompt) for prompt in prompts])[:, None]
    said = torch.arange(len(places)) < lengths
    weights = torch.where(said, 0.0, -math.inf)
    weights[:, longest:] = torch.log((TEXT_SLOTS - lengths) / STAND_INS)
    return _heard(text_encoder, ids, said, places, weights[:, None, None])


def listen_exactly(text_encoder: Any, prompts: list[list[int]]) -> Heard:
    """The same with all of the padding, as the served pipeline does it."""
    pad = text_encoder.config.pad_token_id
    ids = torch.tensor([prompt + [pad] * (TEXT_SLOTS - len(prompt)) for prompt in prompts])
    said = torch.arange(TEXT_SLOTS) < torch.tensor([len(prompt) for prompt in prompts])[:, None]
    places = torch.arange(TEXT_SLOTS)
    return _heard(text_encoder, ids, said, places, torch.zeros(len(prompts), 1, 1, TEXT_SLOTS))


def _heard(text_encoder: Any, ids: Tensor, said: Tensor, places: Tensor, weights: Tensor) -> Heard:
    hidden = text_encoder.model(
        input_ids=ids,
        attention_mask=said.long(),
        position_ids=places.expand(len(ids), -1),
        output_hidden_states=True,
        use_cache=False,
    ).hidden_states
    tokens = torch.cat([hidden[layer] for layer in text_encoder.config.text_encoder_out_layers], dim=-1)
    ends = hidden[-1][torch.arange(len(ids)), said.sum(1) - 1]
    return Heard(tokens, places, weights, ends)
