"""Writes the model folder for transformers and vLLM; each file is replaced atomically."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from pathlib import Path

import torch
from architecture import IMAGE_TOKENS, image_processor
from transformers import GenerationConfig, Idefics3ForConditionalGeneration, Idefics3Processor, PreTrainedTokenizerFast


def export_model(model: Idefics3ForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Saves bfloat16 weights, configuration, tokenizer and processor into `folder`.

    Files are written under temporary names and renamed, so that a reader never sees an incomplete file.
    """
    staging = Path(tempfile.mkdtemp(prefix=".export-", dir=folder))
    try:
        published = copy.deepcopy(model).to(torch.bfloat16)
        ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        published.generation_config = GenerationConfig(**ids, pad_token_id=tokenizer.pad_token_id)
        published.save_pretrained(staging)
        processor = Idefics3Processor(
            image_processor=image_processor(),
            tokenizer=copy.deepcopy(tokenizer),
            image_seq_len=IMAGE_TOKENS,
            chat_template=tokenizer.chat_template,
        )
        processor.save_pretrained(staging)
        # vLLM and older transformers look for the image settings here, newer ones inside processor_config.json.
        processor.image_processor.save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        for path in staging.iterdir():
            path.chmod(0o644)
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(staging)
