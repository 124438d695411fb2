"""LoRA adapters with random weights for the language layers of a model, in the files that peft writes."""

from __future__ import annotations

import json
from pathlib import Path

MODULES = ("self_attn.q_proj", "self_attn.v_proj", "self_attn.o_proj")


def random_adapter(model: Path, folder: Path, *, rank: int, seed: int, hidden_size: int | None = None) -> Path:
    """Writes an adapter that changes every answer of an Idefics3 model.

    Arguments: `model`, the model's folder; `folder`, to be made; `hidden_size`, another one than the model's for an
    adapter that does not fit it.
    """
    import torch
    from safetensors.torch import save_file

    config = json.loads((model / "config.json").read_text())["text_config"]
    width = hidden_size or config["hidden_size"]
    random = torch.Generator().manual_seed(seed)
    weights = {}
    for layer in range(config["num_hidden_layers"]):
        for module in MODULES:
            name = f"base_model.model.model.text_model.layers.{layer}.{module}"
            weights[f"{name}.lora_A.weight"] = torch.randn(rank, width, generator=random) / width**0.5
            weights[f"{name}.lora_B.weight"] = torch.randn(width, rank, generator=random)
    folder.mkdir(parents=True)
    save_file(weights, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(
        json.dumps(
            {
                "peft_type": "LORA",
                "task_type": "CAUSAL_LM",
                "r": rank,
                "lora_alpha": 2 * rank,
                "bias": "none",
                "target_modules": sorted({module.rpartition(".")[2] for module in MODULES}),
            }
        )
    )
    return folder


def random_image_adapter(folder: Path, *, seed: int, width: int = 128, n_blocks: int = 2) -> Path:
    """Writes an adapter that changes every image of the tiny FLUX.2 klein, whose attention has this width."""
    import torch
    from safetensors.torch import save_file

    random = torch.Generator().manual_seed(seed)
    weights = {}
    for block in range(n_blocks):
        for module in ("to_q", "to_k", "to_v"):
            name = f"base_model.model.transformer_blocks.{block}.attn.{module}"
            weights[f"{name}.lora_A.weight"] = torch.randn(4, width, generator=random) / width**0.5
            weights[f"{name}.lora_B.weight"] = torch.randn(width, 4, generator=random)
    folder.mkdir(parents=True)
    save_file(weights, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "bias": "none", "target_modules": ["to_q", "to_k", "to_v"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder
