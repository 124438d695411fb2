"""A tiny Wan2.2 S2V: generates a talking video of noise from an image and audio.

diffusers has no class for this model, so its parts are written one by one, in the folders where vLLM-Omni looks.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import transformers

from omni_cpu.checkpoints.tokenizer import byte_tokenizer
from omni_cpu.checkpoints.wan import TEXT_WIDTH, autoencoder, text_encoder

_SOUND_WIDTH = 16
_TRANSFORMER: dict[str, Any] = {
    "_class_name": "WanModel_S2V",
    "model_type": "s2v",
    "adain_mode": "attn_norm",
    "add_last_motion": True,
    "audio_dim": _SOUND_WIDTH,
    "audio_inject_layers": [0, 1],
    "cond_dim": 16,
    "dim": 64,
    "enable_adain": True,
    "enable_framepack": True,
    "enable_motioner": False,
    "enable_tsm": False,
    "eps": 1e-6,
    "ffn_dim": 128,
    "framepack_drop_mode": "padd",
    "freq_dim": 64,
    "in_dim": 16,
    "out_dim": 16,
    "motion_token_num": 1024,
    "num_audio_token": 4,
    "num_heads": 4,
    "num_layers": 2,
    "text_dim": TEXT_WIDTH,
    "text_len": 512,
    "trainable_token_pos_emb": False,
    "zero_init": True,
    "zero_timestep": True,
}
_INDEX = {
    "_class_name": "WanS2VPipeline",
    "_diffusers_version": "0.40.0",
    "text_encoder": ["transformers", "UMT5EncoderModel"],
    "tokenizer": ["transformers", "Qwen2Tokenizer"],
    "transformer": ["diffusers", "WanModel_S2V"],
    "vae": ["diffusers", "AutoencoderKLWan"],
}


def save_wan_s2v(folder: Path) -> None:
    """Wan2.2 S2V: a UMT5 text encoder, a wav2vec 2.0 audio encoder, the transformer, a video autoencoder."""
    torch.manual_seed(0)
    byte_tokenizer().save_pretrained(folder / "tokenizer")
    text_encoder().to(torch.float32).save_pretrained(folder / "text_encoder")
    autoencoder().to(torch.float32).save_pretrained(folder / "vae")
    _save_sound_encoder(folder / "wav2vec2-large-xlsr-53-english")
    (folder / "transformer").mkdir()
    _write_json(folder / "transformer" / "config.json", _TRANSFORMER)
    _write_json(folder / "model_index.json", _INDEX)
    weights = _transformer_weights(folder)
    safetensors.torch.save_file(weights, folder / "transformer" / "diffusion_pytorch_model.safetensors")


def _save_sound_encoder(folder: Path) -> None:
    folder.mkdir()
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    _write_json(folder / "vocab.json", {letter: number for number, letter in enumerate(letters)})
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(folder / "vocab.json"))
    transformers.Wav2Vec2Processor(transformers.Wav2Vec2FeatureExtractor(), tokenizer).save_pretrained(folder)
    config = transformers.Wav2Vec2Config(
        vocab_size=len(letters),
        hidden_size=_SOUND_WIDTH,
        num_hidden_layers=24,  # the video model uses all 25 hidden states
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
    )
    transformers.Wav2Vec2ForCTC(config).save_pretrained(folder)


def _transformer_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Random weights for the transformer, which only vLLM-Omni can build, with its distributed state initialized."""
    import vllm_omni  # noqa: F401 (it patches vLLM, whose modules come next)
    from vllm.config import DeviceConfig, VllmConfig, set_current_vllm_config
    from vllm_omni.diffusion.data import OmniDiffusionConfig
    from vllm_omni.diffusion.distributed.parallel_state import init_distributed_environment, initialize_model_parallel
    from vllm_omni.diffusion.forward_context import set_forward_context
    from vllm_omni.diffusion.models.wan2_2.wan2_2_s2v_transformer import create_s2v_transformer_from_config

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(_free_port()), RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")
    vllm_config = VllmConfig(device_config=DeviceConfig(device=torch.device("cpu")))
    omni_config = OmniDiffusionConfig(model=str(folder))
    with (
        set_forward_context(vllm_config=vllm_config, omni_diffusion_config=omni_config),
        set_current_vllm_config(vllm_config),
    ):
        init_distributed_environment(world_size=1, rank=0)
        initialize_model_parallel()
        transformer = create_s2v_transformer_from_config(_TRANSFORMER)
    weights = {}
    for name, parameter in transformer.named_parameters():
        # vLLM's layers only allocate their weights, so every value is set here.
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.05)
        else:
            torch.nn.init.constant_(parameter, float("norm" in name and name.endswith("weight")))
        weights[name] = parameter.detach().to(torch.float32).contiguous().clone()
    return weights


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
