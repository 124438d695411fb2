"""A tiny OmniVoice: makes noise of a plausible length from a text, also with a voice cloned from a recording.

It is a Qwen3 that fills in the codes of eight codebooks, and Higgs Audio's tokenizer that makes sound of the codes.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

from omni_cpu.checkpoints.tokenizer import byte_tokenizer

_CODEBOOKS = 8
_CODES = 1025
"""The codes of a codebook, with the one that stands for a code that is not filled in yet."""
_WIDTH = 64


def save_omnivoice(folder: Path) -> None:
    """Saves the model with random weights, the same each time."""
    torch.manual_seed(0)
    _save_language_model(folder)
    byte_tokenizer().save_pretrained(folder)
    _sound_tokenizer().save_pretrained(folder / "audio_tokenizer")


def _save_language_model(folder: Path) -> None:
    text = transformers.Qwen3Config(
        hidden_size=_WIDTH,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        vocab_size=1100,  # the codes of sounds are looked up among the words too
        max_position_embeddings=4096,
    )
    weights = {f"llm.{name}": value for name, value in transformers.Qwen3Model(text).state_dict().items()}
    for name in ("audio_embeddings", "audio_heads"):
        weights[f"{name}.weight"] = torch.randn(_CODEBOOKS * _CODES, _WIDTH) * 0.1
    stored = {name: value.to(torch.bfloat16).contiguous() for name, value in weights.items()}
    save_file(stored, folder / "model.safetensors")
    config = {
        "architectures": ["OmniVoice"],
        "model_type": "omnivoice",
        "llm_config": text.to_dict(),
        "audio_vocab_size": _CODES,
        "audio_mask_id": _CODES - 1,
        "num_audio_codebook": _CODEBOOKS,
        "num_step": 8,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))


def _sound_tokenizer() -> transformers.HiggsAudioV2TokenizerModel:
    config = transformers.HiggsAudioV2TokenizerConfig(
        acoustic_model_config={
            "encoder_hidden_size": 4,
            "decoder_hidden_size": 64,
            "hidden_size": 16,
            "downsampling_ratios": [8, 5, 4, 6],
            "upsampling_ratios": [8, 5, 4, 6],
            "codebook_dim": 8,
        },
        semantic_model_config={
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 16,
            "conv_dim": (16,) * 7,
            "num_conv_pos_embeddings": 16,
            "num_conv_pos_embedding_groups": 2,
        },
        codebook_dim=8,
        target_bandwidths=[0.5, 1, 1.5, 2],
    )
    tokenizer = transformers.HiggsAudioV2TokenizerModel(config)
    for name, buffer in tokenizer.named_buffers():
        if name.endswith("codebook.embed"):
            buffer.normal_()  # zeros by default: all codes would sound the same
    return tokenizer
