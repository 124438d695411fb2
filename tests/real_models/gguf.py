"""Chat models from GGUF files: transformers expands their 4-bit weights, and they are saved in bfloat16."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.real_models.packages import only

GEMMA_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
"""Of the whole file, as its packages state it."""


def save_smollm2(files: Sequence[Path], target: Path, scratch: Path) -> None:
    """SmolLM2 135M Instruct, with its chat template.

    Arguments as in `catalogue.py`.
    """
    _save(only(files, ".gguf"), target, site=scratch / "files")


def save_gemma(files: Sequence[Path], target: Path, scratch: Path) -> None:
    """Gemma 3 270M, a base model without a chat template.

    Arguments as in `catalogue.py`.

    Raises: `RuntimeError` when the parts do not make up the file that they should.
    """
    whole = scratch / "gemma.gguf"
    with whole.open("wb") as file:
        for part in sorted((path for path in files if ".gguf.part" in path.name), key=lambda path: path.name):
            file.write(part.read_bytes())
            part.unlink()
    with whole.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != GEMMA_SHA256:
            raise RuntimeError("the parts of Gemma's file make up another file")
    _save(whole, target, site=scratch / "files")
    _begin_with(target / "tokenizer.json", "<bos>")


def _save(gguf: Path, target: Path, site: Path) -> None:
    """Writes the model and its tokenizer; `site` has the packages that transformers imports for it."""
    sys.path.insert(0, str(site))
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    model: Any = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16)
    model = model.to(torch.bfloat16)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config  # else what is saved is called a quantised model
    model.hf_quantizer, model.is_quantized = None, False
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _begin_with(tokenizer_file: Path, token: str) -> None:
    """Has the tokenizer put a token before each text: GGUF says so in a field that transformers 5.19 does not read."""
    from tokenizers import Tokenizer, processors

    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{token} $A",
        pair=f"{token} $A {token} $B",
        special_tokens=[(token, tokenizer.token_to_id(token))],
    )
    tokenizer.save(str(tokenizer_file))
