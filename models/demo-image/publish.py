"""Writes the model folder for vLLM-Omni; each file is replaced atomically."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from pathlib import Path

import torch
from components import build_pipeline
from flow import Painter


def publish(painter: Painter, folder: Path) -> None:
    """Saves bfloat16 weights, configurations and tokenizer into `folder`.

    Files are written under temporary names and renamed, so that a reader never sees an incomplete file.
    """
    staging = Path(tempfile.mkdtemp(prefix=".publish-", dir=folder))
    try:
        parts = copy.deepcopy(painter)
        pipeline = build_pipeline(parts.autoencoder, parts.text_encoder, parts.transformer, parts.tokenizer)
        pipeline.to(torch.bfloat16)
        # Averages lose too much when rounded to 8 bits, and the pipeline takes them as they are.
        pipeline.vae.bn.float()
        pipeline.save_pretrained(staging)
        for path in sorted(staging.rglob("*")):
            if path.is_file():
                target = folder / path.relative_to(staging)
                target.parent.mkdir(exist_ok=True)
                path.chmod(0o644)
                os.replace(path, target)
    finally:
        shutil.rmtree(staging)
