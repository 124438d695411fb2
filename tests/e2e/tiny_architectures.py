"""More kinds of vision-language models, tiny and random.

They differ where it matters here: how images stand in the prompt, whether there is a chat template, and how many
images a prompt holds (BLIP-2: one).
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


def blip2() -> Path:
    """The folder of a BLIP-2: a vision transformer, a Q-Former with 8 queries, and OPT."""
    return tiny_models.built("blip2", _save_blip2)


def aria() -> Path:
    """The folder of an Aria: images of 490 pixels, 16 tokens each, and a mixture of 4 experts."""
    return tiny_models.built("aria", _save_aria)


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


def _save_aria(folder: Path) -> None:
    import torch
    from transformers import (
        AriaConfig,
        AriaForConditionalGeneration,
        AriaImageProcessorPil,
        AriaProcessor,
        PreTrainedTokenizerFast,
    )

    torch.manual_seed(0)
    bytes_alone = tiny_models.byte_tokenizer(tiny_models.CHAT_TEMPLATE)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bytes_alone.backend_tokenizer,
        bos_token="<|im_start|>",
        eos_token="<end_of_utterance>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
    )
    experts = {"moe_num_experts": 4, "moe_topk": 2, "moe_num_shared_experts": 1, "intermediate_size": 64}
    side = {"image_size": 490, "patch_size": 14}  # its image processor takes no other
    config = AriaConfig(
        vision_config={"model_type": "idefics3_vision", **VISION, **side},
        text_config={"model_type": "aria_text", **tiny_models.text_config(len(tokenizer)), **experts},
        projector_patch_to_query_dict={1225: 16, 4900: 32},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    images = AriaImageProcessorPil(max_image_size=490, min_image_size=336)
    sizes = {490: 16, 980: 32}
    processor = AriaProcessor(images, tokenizer, chat_template=tiny_models.CHAT_TEMPLATE, size_conversion=sizes)
    _save(AriaForConditionalGeneration, config, processor, folder)


def _save(model_class: Any, config: Any, processor: Any, folder: Path) -> None:
    config.bos_token_id, config.eos_token_id, config.pad_token_id = 1, 6, 0
    model_class(config).float().save_pretrained(folder)
    processor.save_pretrained(folder)
