"""Kinds of vision-language models whose processors need torchvision, tiny and random.

    python -m tests.e2e.tiny_torchvision NAME     prints the folder of the model, built now if it is not there

`torchvision_wheel.folder_of` runs this where torchvision can be imported.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tests.e2e import tiny_models

SIDE = 56
PATCH = 14
MERGED = 2
"""So many patches along each side become one token."""


def main() -> None:
    """Builds the model that the command line names."""
    name = sys.argv[1]
    print(tiny_models.built(name, {"internvl": _save_internvl, "qwen2-vl": _save_qwen2_vl}[name]))


def _save_internvl(folder: Path) -> None:
    from transformers import (
        GotOcr2ImageProcessor,
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        InternVLVideoProcessor,
    )

    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer, template = _tokenizer(named, "<IMG_CONTEXT>\\n")
    config = InternVLConfig(
        vision_config={
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": [SIDE, SIDE],
            "patch_size": [PATCH, PATCH],
            "initializer_range": 0.2,
        },
        text_config={"model_type": "qwen2", **tiny_models.text_config(len(tokenizer))},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=(SIDE // PATCH // MERGED) ** 2,
        downsample_ratio=1 / MERGED,
        tie_word_embeddings=False,
    )
    size = {"height": SIDE, "width": SIDE}
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(size=size, crop_to_patches=True, min_patches=1, max_patches=4),
        tokenizer,
        InternVLVideoProcessor(size=size),
        image_seq_length=(SIDE // PATCH // MERGED) ** 2,
        chat_template=template,
    )
    _save(InternVLForConditionalGeneration, config, processor, folder)


def _save_qwen2_vl(folder: Path) -> None:
    from transformers import (
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    named = {
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "vision_start": "<|vision_start|>",
        "vision_end": "<|vision_end|>",
    }
    tokenizer, template = _tokenizer(
        named, "<|vision_start|><|image_pad|><|vision_end|>", "<|vision_start|><|video_pad|><|vision_end|>"
    )
    text = tiny_models.text_config(len(tokenizer))
    config = Qwen2VLConfig(
        vision_config={
            "depth": 2,
            "embed_dim": 64,
            "hidden_size": text["hidden_size"],
            "num_heads": 2,
            "mlp_ratio": 2,
            "patch_size": PATCH,
            "spatial_merge_size": MERGED,
            "initializer_range": 0.2,
        },
        text_config={
            "model_type": "qwen2_vl_text",
            **text,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [4, 6, 6]},
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
        tie_word_embeddings=False,
    )
    pixels = {"shortest_edge": SIDE * SIDE, "longest_edge": 2 * SIDE * SIDE}
    processor = Qwen2VLProcessor(
        Qwen2VLImageProcessor(size=pixels), tokenizer, Qwen2VLVideoProcessor(size=pixels), chat_template=template
    )
    _save(Qwen2VLForConditionalGeneration, config, processor, folder)


def _tokenizer(named: dict[str, str], image: str, video: str = "") -> tuple[Any, str]:
    """The tokenizer of bytes with a model's own tokens, each known under a name, and a template that shows images and
    videos so."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tiny_models.byte_tokenizer(None).backend_tokenizer,
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        pad_token="<pad>",
        extra_special_tokens=named,
    )
    branch = "<image>{% elif part.type == 'video' %}" + video
    return tokenizer, tiny_models.CHAT_TEMPLATE.replace("<image>", branch).replace("<image>", image)


def _save(model_class: Any, config: Any, processor: Any, folder: Path) -> None:
    import torch

    torch.manual_seed(0)
    config.bos_token_id, config.eos_token_id, config.pad_token_id = 1, 6, 0
    model_class(config).float().save_pretrained(folder)
    processor.save_pretrained(folder)


if __name__ == "__main__":
    main()
