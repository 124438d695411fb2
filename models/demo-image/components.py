# mypy: disable-error-code="import-not-found"
"""Sizes and construction of the model's parts: autoencoder, text encoder, transformer and schedule.

The only module that imports diffusers, which comes with vLLM-Omni and is not part of this project's own environment.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKLFlux2, FlowMatchEulerDiscreteScheduler, Flux2KleinPipeline, Flux2Transformer2DModel
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

# Pixels a side of a latent, as the autoencoder halves three times, and of a token, which is 2 × 2 latents.
LATENT_PIXELS, TOKEN_PIXELS = 8, 16
LATENT_CHANNELS = 4
TOKEN_CHANNELS = 4 * LATENT_CHANNELS
# The length to which the served pipeline pads every prompt.
TEXT_SLOTS = 512
TEXT_WIDTH, TEXT_LAYERS = 128, 3
WIDTH, HEAD_WIDTH, DOUBLE_LAYERS, SINGLE_LAYERS = 160, 32, 2, 4


def build_autoencoder() -> Any:
    """A small `AutoencoderKLFlux2`: 4 channels for every 8 × 8 pixels."""
    return AutoencoderKLFlux2(
        block_out_channels=(16, 16, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=1,
        sample_size=256,
    )


def build_text_encoder(vocabulary: int, pad_token_id: int) -> Any:
    """A small `Qwen3ForCausalLM`; the transformer gets the concatenated states of its three layers."""
    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=TEXT_WIDTH,
        intermediate_size=2 * TEXT_WIDTH,
        num_hidden_layers=TEXT_LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=1024,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        pad_token_id=pad_token_id,
    )
    config.text_encoder_out_layers = list(range(1, TEXT_LAYERS + 1))
    return Qwen3ForCausalLM(config)


def build_transformer() -> Any:
    """A small `Flux2Transformer2DModel` without guidance embedding, as FLUX.2-klein has it."""
    return Flux2Transformer2DModel(
        patch_size=1,
        in_channels=TOKEN_CHANNELS,
        num_layers=DOUBLE_LAYERS,
        num_single_layers=SINGLE_LAYERS,
        attention_head_dim=HEAD_WIDTH,
        num_attention_heads=WIDTH // HEAD_WIDTH,
        joint_attention_dim=TEXT_LAYERS * TEXT_WIDTH,
        timestep_guidance_channels=256,
        axes_dims_rope=(4, 12, 12, 4),
        # Far below the usual 2,000: an image is a dozen tokens wide, and every frequency should distinguish them.
        rope_theta=100,
        guidance_embeds=False,
    )


def build_pipeline(autoencoder: Any, text_encoder: Any, transformer: Any, tokenizer: PreTrainedTokenizerFast) -> Any:
    """The parts as one pipeline that saves itself; four even steps go from noise to image."""
    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=False, shift=1.0),
        vae=autoencoder,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=transformer,
        is_distilled=True,
    )


def to_tokens(latents: Tensor) -> Tensor:
    """Latents (N, C, 2h, 2w) as the transformer's channels (N, 4 C, h, w): every 2 × 2 patch becomes one token."""
    count, channels, height, width = latents.shape
    patches = latents.reshape(count, channels, height // 2, 2, width // 2, 2)
    return patches.permute(0, 1, 3, 5, 2, 4).reshape(count, channels * 4, height // 2, width // 2)


def from_tokens(tokens: Tensor) -> Tensor:
    """The inverse of `to_tokens`."""
    count, channels, height, width = tokens.shape
    patches = tokens.reshape(count, channels // 4, 2, 2, height, width)
    return patches.permute(0, 1, 4, 2, 5, 3).reshape(count, channels // 4, height * 2, width * 2)


def positions(length: int | Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Coordinates (time, row, column, place in the text) of text and image tokens."""
    places = torch.arange(length) if isinstance(length, int) else length
    one = torch.zeros(1, dtype=torch.long)
    return (
        torch.cartesian_prod(one, one, one, places),
        torch.cartesian_prod(one, torch.arange(height), torch.arange(width), one),
    )
