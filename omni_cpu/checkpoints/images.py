"""Tiny image models: FLUX.2 klein, Qwen-Image and Z-Image.

All weights are float32, of which `serve.py` tells vLLM-Omni: with bfloat16, vLLM-Omni's default, a CPU without AVX-512
takes ten times as long.
"""

from __future__ import annotations

from pathlib import Path

import diffusers
import torch
import transformers

from omni_cpu.checkpoints.tokenizer import END_TOKEN_ID, VOCABULARY, byte_tokenizer

_HIDDEN = 64
_TEXT_LAYERS = {
    "hidden_size": _HIDDEN,
    "intermediate_size": 2 * _HIDDEN,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
}


def save_klein(folder: Path) -> None:
    """FLUX.2 klein: a Qwen3 text encoder, a flow transformer, an autoencoder with 16 pixels per latent."""
    torch.manual_seed(0)
    text_config = transformers.Qwen3Config(
        **_TEXT_LAYERS, head_dim=16, num_hidden_layers=4, max_position_embeddings=1024, tie_word_embeddings=False
    )
    # The layers whose states the transformer sees; vLLM-Omni reads it, the real model's are 9, 18 and 27.
    text_config.text_encoder_out_layers = [1, 2, 3]
    pipeline = diffusers.Flux2KleinPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True,
            base_shift=0.5,
            max_shift=1.15,
            base_image_seq_len=256,
            max_image_seq_len=4096,
            shift=3.0,
            time_shift_type="exponential",
        ),
        vae=diffusers.AutoencoderKLFlux2(
            in_channels=3,
            out_channels=3,
            sample_size=64,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(16,) * 4,
            layers_per_block=1,
            latent_channels=8,
            norm_num_groups=4,
        ),
        text_encoder=transformers.Qwen3ForCausalLM(text_config),
        tokenizer=byte_tokenizer(),
        transformer=diffusers.Flux2Transformer2DModel(
            patch_size=1,
            in_channels=32,
            num_layers=2,
            num_single_layers=2,
            attention_head_dim=32,
            num_attention_heads=4,
            joint_attention_dim=3 * _HIDDEN,
            timestep_guidance_channels=256,
            axes_dims_rope=(8, 8, 8, 8),
            guidance_embeds=False,
        ),
        is_distilled=True,
    )
    pipeline.to(torch.float32)
    pipeline.save_pretrained(folder)


def save_qwen_image(folder: Path) -> None:
    """Qwen-Image: a Qwen2.5-VL text encoder, a two-stream transformer, a video autoencoder used for single images."""
    torch.manual_seed(0)
    config = transformers.Qwen2_5_VLConfig(
        text_config={
            **_TEXT_LAYERS,
            "num_hidden_layers": 2,
            "max_position_embeddings": 4096,
            "rope_theta": 1e6,
            "rope_scaling": {"mrope_section": [2, 3, 3], "rope_type": "default", "type": "default"},
        },
        vision_config={
            "depth": 1,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 2,
            "out_hidden_size": _HIDDEN,
            "fullatt_block_indexes": [0],
        },
        hidden_size=_HIDDEN,
        vision_start_token_id=258,
        vision_end_token_id=END_TOKEN_ID,
        image_token_id=END_TOKEN_ID,
        video_token_id=END_TOKEN_ID,
    )
    autoencoder = diffusers.AutoencoderKLQwenImage(
        base_dim=16, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]
    )
    transformer = diffusers.QwenImageTransformer2DModel(
        patch_size=2,
        in_channels=64,
        out_channels=16,
        num_layers=2,
        attention_head_dim=32,
        num_attention_heads=4,
        joint_attention_dim=_HIDDEN,
        guidance_embeds=False,
        axes_dims_rope=(8, 12, 12),
    )
    pipeline = diffusers.QwenImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True,
            base_shift=0.5,
            max_shift=0.9,
            base_image_seq_len=256,
            max_image_seq_len=8192,
            shift=1.0,
            shift_terminal=0.02,
            time_shift_type="exponential",
        ),
        vae=autoencoder,
        text_encoder=transformers.Qwen2_5_VLForConditionalGeneration(config),
        tokenizer=byte_tokenizer(),
        transformer=transformer,
    )
    pipeline.to(torch.float32)
    pipeline.save_pretrained(folder)


def save_z_image(folder: Path) -> None:
    """Z-Image, for `--diffusion-load-format diffusers`: vLLM-Omni's class has fixed sizes."""
    torch.manual_seed(0)
    text_config = transformers.Qwen3Config(
        **_TEXT_LAYERS, head_dim=16, num_hidden_layers=2, max_position_embeddings=1024
    )
    autoencoder = diffusers.AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(16,) * 4,
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=4,
        use_quant_conv=False,
        use_post_quant_conv=False,
        scaling_factor=0.3611,
        shift_factor=0.1159,
    )
    transformer = diffusers.ZImageTransformer2DModel(
        all_patch_size=(2,),
        all_f_patch_size=(1,),
        in_channels=16,
        dim=_HIDDEN,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=4,
        n_kv_heads=4,
        cap_feat_dim=_HIDDEN,
        axes_dims=[4, 6, 6],
        axes_lens=[512, 256, 256],
    )
    pipeline = diffusers.ZImagePipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=autoencoder,
        text_encoder=transformers.Qwen3Model(text_config),
        tokenizer=byte_tokenizer(),
        transformer=transformer,
    )
    pipeline.to(torch.float32)
    pipeline.save_pretrained(folder)
