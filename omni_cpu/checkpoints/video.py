"""Tiny Wan2.2 models: video from words (T2V), from words or an image (TI2V), and from an image (I2V)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import torch

from omni_cpu.checkpoints.tokenizer import byte_tokenizer
from omni_cpu.checkpoints.wan import TEXT_WIDTH, autoencoder, text_encoder

_LATENTS = 16
_TI2V_LATENTS = 48
_I2V_INPUTS = 36
"""The channels that I2V sees: its latents, those of the image, and 4 that mark the given frames."""


def save_wan_t2v(folder: Path) -> None:
    """Wan2.2 T2V with one transformer; the real one has a second for the last steps."""
    torch.manual_seed(0)
    _save(diffusers.WanPipeline(**_parts(), vae=autoencoder(), transformer=_transformer()), folder)


def save_wan_ti2v(folder: Path) -> None:
    """Wan2.2 TI2V: 16 pixels per latent, and each latent has a time step of its own, 0 for the given image."""
    torch.manual_seed(0)
    pipeline = diffusers.WanPipeline(
        **_parts(),
        vae=autoencoder(
            _TI2V_LATENTS,
            in_channels=12,
            out_channels=12,
            patch_size=2,
            is_residual=True,
            decoder_base_dim=16,
            scale_factor_spatial=16,
            latents_mean=[0.0] * _TI2V_LATENTS,
            latents_std=[1.0] * _TI2V_LATENTS,
        ),
        transformer=_transformer(_TI2V_LATENTS, _TI2V_LATENTS),
        expand_timesteps=True,
    )
    _save(pipeline, folder)


def save_wan_i2v(folder: Path) -> None:
    """Wan2.2 I2V with two transformers: vLLM-Omni looks for the second one's weights wherever the index names it."""
    torch.manual_seed(0)
    pipeline = diffusers.WanImageToVideoPipeline(
        **_parts(),
        vae=autoencoder(),
        transformer=_transformer(_I2V_INPUTS),
        transformer_2=_transformer(_I2V_INPUTS),
        boundary_ratio=0.9,
        image_processor=None,
        image_encoder=None,
    )
    _save(pipeline, folder)


def _parts() -> dict[str, Any]:
    """The parts that are the same in all three."""
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=3.0
    )
    return {"tokenizer": byte_tokenizer(), "text_encoder": text_encoder(), "scheduler": scheduler}


def _transformer(in_channels: int = _LATENTS, out_channels: int = _LATENTS) -> Any:
    return diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=4,
        attention_head_dim=32,
        in_channels=in_channels,
        out_channels=out_channels,
        text_dim=TEXT_WIDTH,
        freq_dim=64,
        ffn_dim=128,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=256,
    )


def _save(pipeline: Any, folder: Path) -> None:
    pipeline.to(torch.float32)
    pipeline.save_pretrained(folder)
