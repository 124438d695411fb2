"""The model's architecture, a small Idefics3, and its image processor.

Idefics3 is chosen because vLLM runs it without torchvision. This module does not know training data.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
)

IMAGE_SIZE = 96
# 8 x 8 patches: Idefics3 finds a patch's position by comparing fractions, exact in bfloat16 only for powers of two.
PATCH_SIZE = 12
GRID = IMAGE_SIZE // PATCH_SIZE
SCALE_FACTOR = 2
IMAGE_TOKENS = (GRID // SCALE_FACTOR) ** 2
VISION_WIDTH = 128
TEXT_WIDTH = 160
TEXT_LAYERS = 5
# The smallest head that every attention kernel of vLLM takes.
HEAD_WIDTH = 32
CONTEXT_TOKENS = 8192


def build_model(vocabulary: int, ids: dict[str, int]) -> Idefics3ForConditionalGeneration:
    """An untrained model in float32.

    Arguments: `vocabulary`, the number of tokens; `ids`, the ids of the tokens `pad`, `bos`, `eos` and `image`.
    """
    vision = {
        "hidden_size": VISION_WIDTH,
        "intermediate_size": 4 * VISION_WIDTH,
        "num_hidden_layers": 4,
        "num_attention_heads": VISION_WIDTH // HEAD_WIDTH,
        "image_size": IMAGE_SIZE,
        "patch_size": PATCH_SIZE,
    }
    text = {
        "model_type": "llama",
        "vocab_size": vocabulary,
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 448,
        "num_hidden_layers": TEXT_LAYERS,
        "num_attention_heads": TEXT_WIDTH // HEAD_WIDTH,
        "num_key_value_heads": TEXT_WIDTH // HEAD_WIDTH,
        "head_dim": HEAD_WIDTH,
        "max_position_embeddings": CONTEXT_TOKENS,
        "rms_norm_eps": 1e-5,
        "bos_token_id": ids["bos"],
        "eos_token_id": ids["eos"],
        "pad_token_id": ids["pad"],
        "tie_word_embeddings": False,
    }
    config = Idefics3Config(
        vision_config=vision,
        text_config=text,
        image_token_id=ids["image"],
        scale_factor=SCALE_FACTOR,
        pad_token_id=ids["pad"],
        tie_word_embeddings=False,
    )
    config.bos_token_id, config.eos_token_id = ids["bos"], ids["eos"]
    return Idefics3ForConditionalGeneration(config).float()


def image_processor() -> Any:
    """The processor that is saved with the model: one global image, squashed to a square.

    `do_resize=False` drops Idefics3's first resize to a longest edge, so that an image is resampled once. Bilinear,
    because Pillow and torchvision (which transformers prefers where it works) agree on it and not on Lanczos.
    """
    return Idefics3ImageProcessorPil(
        do_convert_rgb=True,
        do_resize=False,
        do_image_splitting=False,
        max_image_size={"longest_edge": IMAGE_SIZE},
        size={"longest_edge": IMAGE_SIZE},
        resample=Image.Resampling.BILINEAR,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )


def squash(image: Image.Image) -> npt.NDArray[np.uint8]:
    """The processor's pixels before normalisation, shape (IMAGE_SIZE, IMAGE_SIZE, 3); `bank` checks that they agree."""
    small = image.convert("RGB").resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BILINEAR)
    return np.asarray(small)
