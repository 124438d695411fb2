"""The parts that all tiny Wan models have: a UMT5 text encoder and a video autoencoder."""

from __future__ import annotations

from typing import Any

import diffusers
import transformers

from omni_cpu.checkpoints.tokenizer import END_TOKEN_ID, VOCABULARY

TEXT_WIDTH = 32
"""The size of a token's vector, as the transformers expect it."""


def text_encoder() -> Any:
    """A UMT5 with two layers."""
    config = transformers.UMT5Config(
        vocab_size=VOCABULARY,
        d_model=TEXT_WIDTH,
        d_kv=16,
        d_ff=64,
        num_heads=2,
        num_layers=2,
        feed_forward_proj="gated-gelu",
        pad_token_id=END_TOKEN_ID,
    )
    return transformers.UMT5EncoderModel(config)


def autoencoder(z_dim: int = 16, **changes: Any) -> Any:
    """Wan2.1's autoencoder with 8 pixels and 4 frames per latent; `changes` make another one of it."""
    return diffusers.AutoencoderKLWan(
        base_dim=16,
        z_dim=z_dim,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        **changes,
    )
