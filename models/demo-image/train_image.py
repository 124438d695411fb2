"""Trains the demo image model from scratch and writes it into this folder: `python train_image.py`.

Three stages: an autoencoder of images, then text encoder and transformer together on its latents, then its decoder
once more. Checkpoints go to `checkpoints/`; the same command resumes from them, and with more minutes trains on. It
needs diffusers, which the environment of vLLM-Omni has.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from autoencoder import train_autoencoder
from components import build_autoencoder, build_text_encoder, build_transformer
from flow import Painter, train_flow
from latents import Size, load_banks
from polish import polish_decoder
from publish import publish
from stages import Stage
from transformers import PreTrainedTokenizerFast, Qwen2TokenizerFast
from vocabulary import train_tokenizer

FOLDER = Path(__file__).resolve().parent
# Images painted of each size, and how often a training step takes the size. The first is the usual one.
IMAGES: Mapping[Size, int] = {(128, 128): 8_000, (192, 128): 1_000, (128, 192): 1_000, (192, 192): 1_000}
SHARES: Mapping[Size, float] = {(128, 128): 0.7, (192, 128): 0.1, (128, 192): 0.1, (192, 192): 0.1}
UNLIMITED_STEPS = 10**9


def main() -> None:
    """Reads the command line and runs the stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=88, help="limit of all training stages together")
    parser.add_argument("--autoencoder-minutes", type=float, default=12, help="how many of them for the autoencoder")
    parser.add_argument("--polish-minutes", type=float, default=16, help="how many of them for the decoder alone")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    # The tokenizer's own threads would only get in the way of torch's.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    started = time.monotonic()
    folder, seed = FOLDER / "checkpoints", arguments.seed
    folder.mkdir(exist_ok=True)

    torch.manual_seed(seed)
    autoencoder = build_autoencoder()
    minutes = arguments.autoencoder_minutes
    train_autoencoder(autoencoder, Stage("autoencoder", UNLIMITED_STEPS, minutes, rate=1.5e-3), folder, seed)
    autoencoder.requires_grad_(False).eval()
    banks = load_banks(autoencoder, IMAGES, folder, seed)

    tokenizer = load_tokenizer(folder / "tokenizer", seed)
    torch.manual_seed(seed + 1)
    text_encoder = build_text_encoder(len(tokenizer), tokenizer.pad_token_id)
    painter = Painter(tokenizer, text_encoder, build_transformer(), autoencoder)
    minutes = arguments.minutes - minutes - arguments.polish_minutes
    stage = Stage("flow", UNLIMITED_STEPS, minutes, rate=1e-3)
    train_flow(painter, banks, SHARES, stage, folder, seed + 1, lambda: publish(painter, FOLDER))
    text_encoder.requires_grad_(False).eval()
    painter.transformer.requires_grad_(False).eval()
    stage = Stage("polish", UNLIMITED_STEPS, arguments.polish_minutes, rate=1e-3)
    polish_decoder(painter, banks, SHARES, stage, folder, seed + 2, lambda: publish(painter, FOLDER))
    print(f"done in {(time.monotonic() - started) / 60:.1f} min", flush=True)


def load_tokenizer(folder: Path, seed: int) -> PreTrainedTokenizerFast:
    """The tokenizer of an earlier run, else a new one: weights in a checkpoint go with one vocabulary."""
    if not folder.exists():
        train_tokenizer(seed).save_pretrained(folder)
    tokenizer: PreTrainedTokenizerFast = Qwen2TokenizerFast.from_pretrained(folder)
    return tokenizer


if __name__ == "__main__":
    main()
