"""More kinds of vision-language models, tiny and random.

They differ where it matters here: how pictures stand in the prompt (a prefix before all text, or queries of a
Q-Former), no chat template, and a limit of one picture a prompt.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.e2e import tiny_models

VISION = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
    "initializer_range": 0.2,
}
IMAGE_SIZE = {"height": 32, "width": 32}


def paligemma() -> Path:
    """The folder of a PaliGemma: SigLIP and Gemma, 16 tokens a picture in front of the prompt."""
    return tiny_models.built("paligemma", _save_paligemma)


def blip2() -> Path:
    """The folder of a BLIP-2: a vision transformer, a Q-Former with 8 queries, and OPT."""
    return tiny_models.built("blip2", _save_blip2)


def _save_paligemma(folder: Path) -> None:
    import torch
    from transformers import (
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PaliGemmaProcessor,
        SiglipImageProcessorPil,
    )

    torch.manual_seed(0)
    tokenizer = tiny_models.byte_tokenizer(None)
    images = SiglipImageProcessorPil(size=IMAGE_SIZE)
    images.image_seq_length = 16
    processor = PaliGemmaProcessor(images, tokenizer)  # it adds tokens of its own
    text = {"model_type": "gemma", "hidden_activation": "gelu_pytorch_tanh"}
    config = PaliGemmaConfig(
        vision_config={"model_type": "siglip_vision_model", "vision_use_head": False, **VISION},
        text_config={**tiny_models.text_config(len(tokenizer)), **text, "tie_word_embeddings": True},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=64,
        hidden_size=64,
    )
    _save(PaliGemmaForConditionalGeneration, config, processor, folder)


def _save_blip2(folder: Path) -> None:
    import torch
    from transformers import Blip2Config, Blip2ForConditionalGeneration, Blip2Processor, BlipImageProcessorPil

    torch.manual_seed(0)
    tokenizer = tiny_models.byte_tokenizer(None)
    layers = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Blip2Config(
        vision_config=VISION,
        qformer_config={**layers, "intermediate_size": 128, "encoder_hidden_size": 64, "vocab_size": 100},
        text_config={
            **layers,
            "model_type": "opt",
            "vocab_size": len(tokenizer),
            "ffn_dim": 128,
            "word_embed_proj_dim": 64,
            "max_position_embeddings": tiny_models.CONTEXT_TOKENS,
            "init_std": 0.5,
        },
        num_query_tokens=8,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    processor = Blip2Processor(BlipImageProcessorPil(size=IMAGE_SIZE), tokenizer, num_query_tokens=8)
    _save(Blip2ForConditionalGeneration, config, processor, folder)


def _save(model_class: Any, config: Any, processor: Any, folder: Path) -> None:
    config.bos_token_id, config.eos_token_id, config.pad_token_id = 1, 6, 0
    model_class(config).float().save_pretrained(folder)
    processor.save_pretrained(folder)
