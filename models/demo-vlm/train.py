"""Trains the demo model from scratch and writes it into this folder: `python train.py`.

Three stages: draw a bank of images, teach the vision tower to classify them, then train everything on dialogues.
Checkpoints go to `checkpoints/`; the same command resumes from them, and with more steps or minutes trains on.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from architecture import build_model
from auxiliary_heads import READINGS, AuxiliaryHeads, Labeller
from bank import load_bank
from dialogues import Image, random_dialogue
from export import export_model
from loop import Stage, run_stage
from scenes import Scene
from tokens import Rendered, render, special_ids, train_tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import Idefics3ForConditionalGeneration, PreTrainedTokenizerFast
from vision import SceneHeads, classification_loss, classification_report, image_batch, orientation, whiten_patches

FOLDER = Path(__file__).resolve().parent
FIRST_TRAINING_SEED, FIRST_HELD_OUT_SEED, HELD_OUT_ROWS = 2_000_000, 600_000, 1000
IMAGES_PER_VISION_STEP = 32
IMAGES_PER_DIALOGUE_STEP = 16
TEXT_DIALOGUES_PER_STEP = 8
LENGTH_GROUPS = 4
# Enough to keep the vision tower accurate, without disturbing the language model.
CLASSIFICATION_WEIGHT = 0.5
# Of the readings in their order: words are what answers hang on.
READING_WEIGHTS = torch.tensor([1.0, 0.2, 0.2, 0.2])
REPORT_EVERY_STEPS = 250


class Trainer:
    """The model in training, its data, and the two losses."""

    def __init__(self, folder: Path, rows: int, seed: int) -> None:
        """Loads or makes the tokenizer and the bank; `rows` images to train on."""
        folder.mkdir(exist_ok=True)
        torch.manual_seed(seed)
        self.folder, self.seed = folder, seed
        workers = os.cpu_count() or 1
        self.bank = load_bank(folder, rows, FIRST_TRAINING_SEED, workers)
        self.easy_rows = self.bank.easy_rows()
        self.held_out = load_bank(folder, HELD_OUT_ROWS, FIRST_HELD_OUT_SEED, workers)
        self.tokenizer = _tokenizer(folder / "tokenizer", seed)
        self.model: Idefics3ForConditionalGeneration = build_model(len(self.tokenizer), special_ids(self.tokenizer))
        self.tower = self.model.model.vision_model
        whiten_patches(self.tower.embeddings.patch_embedding, self.bank)
        self.heads = SceneHeads()
        self.labeller, self.readings = Labeller(self.tokenizer), AuxiliaryHeads()

    def train_vision(self, stage: Stage) -> None:
        """First stage: the tower alone, by classification."""
        modules = nn.ModuleDict({"tower": self.tower, "heads": self.heads})
        run_stage(stage, modules, self._vision_loss, self.folder, self.seed, self._report_vision)

    def train_dialogues(self, stage: Stage) -> None:
        """Second stage: all of the model, by the answers in dialogues."""
        modules = nn.ModuleDict({"model": self.model, "heads": self.heads, "readings": self.readings})
        run_stage(stage, modules, self._dialogue_loss, self.folder, self.seed + 1, self._publish)

    def _vision_loss(self, step: int, generator: np.random.Generator) -> Tensor:
        rows = self._rows(generator, IMAGES_PER_VISION_STEP, easy_share=0.8)
        pixels, labels = image_batch(self.bank, rows, *orientation(generator))
        return classification_loss(self.heads(self.tower(pixel_values=pixels).last_hidden_state), labels)

    def _rows(self, generator: np.random.Generator, count: int, easy_share: float) -> npt.NDArray[np.int64]:
        """Random rows of the bank. Large shapes teach what a corner is; small ones follow once that is known."""
        rows = generator.integers(0, len(self.bank), count)
        easy = generator.random(count) < easy_share
        rows[easy] = self.easy_rows[rows[easy] % len(self.easy_rows)]
        return rows

    @torch.no_grad()
    def _report_vision(self, step: int) -> None:
        pixels, labels = image_batch(self.held_out, np.arange(HELD_OUT_ROWS), 0, False)
        report = classification_report(self.heads(self.tower(pixel_values=pixels).last_hidden_state), labels)
        print(f"held-out pictures, step {step}:", {name: round(share, 3) for name, share in report.items()}, flush=True)

    def _dialogue_loss(self, step: int, generator: np.random.Generator) -> Tensor:
        rng = random.Random(int(generator.integers(2**62)))
        turns, mirrored = orientation(generator)
        rows = self._rows(generator, IMAGES_PER_DIALOGUE_STEP, easy_share=0.4)
        pixels, labels = image_batch(self.bank, rows, turns, mirrored)
        patches = self.tower(pixel_values=pixels).last_hidden_state
        features = self.model.model.connector(patches)
        images = [(place, self.bank.scenes[row].oriented(turns, mirrored)) for place, row in enumerate(rows)]
        dialogues = [random_dialogue(rng, group) for group in _groups(rng, images)]
        dialogues += [random_dialogue(rng, []) for _ in range(TEXT_DIALOGUES_PER_STEP)]
        rendered = sorted(render(self.tokenizer, dialogues), key=lambda item: len(item.ids))
        # Several batches of similar lengths waste less on padding than one.
        size = -(-len(rendered) // LENGTH_GROUPS)
        scenes = dict(images)
        sums = torch.stack(
            [self._text_losses(rendered[at : at + size], features, scenes) for at in range(0, len(rendered), size)]
        ).sum(0)
        answers, *readings = sums[:, 0] / sums[:, 1].clamp(min=1)
        if step % REPORT_EVERY_STEPS == 0:
            shown = dict(
                zip(("answers", *READINGS), (round(float(loss), 3) for loss in (answers, *readings)), strict=True)
            )
            print(f"losses of step {step}: {shown}", flush=True)
        return (
            answers
            + (READING_WEIGHTS * torch.stack(readings)).sum()
            + CLASSIFICATION_WEIGHT * classification_loss(self.heads(patches), labels)
        )

    def _text_losses(self, batch: list[Rendered], features: Tensor, scenes: dict[int, Scene]) -> Tensor:
        """Weighted sums of cross-entropies and the sums of their weights: first those of the assistants' tokens, then
        those of `AuxiliaryHeads.losses`; shape (1 + readings, 2). `scenes` are by their place among `features`.
        """
        longest = max(len(item.ids) for item in batch)
        ids = torch.full((len(batch), longest), self.tokenizer.pad_token_id)
        weights = torch.zeros(len(batch), longest)
        for row, item in enumerate(batch):
            ids[row, : len(item.ids)] = torch.tensor(item.ids)
            weights[row, : len(item.ids)] = torch.tensor(item.weights)
        embeddings = self.model.model.text_model.embed_tokens(ids)
        shown = [place for item in batch for place in item.images]
        if shown:
            where = (ids == self.model.config.image_token_id).unsqueeze(-1)
            embeddings = embeddings.masked_scatter(where, features[shown])
        outputs = self.model.model.text_model(inputs_embeds=embeddings, use_cache=False, output_hidden_states=True)
        weights = weights[:, 1:]
        answered = weights > 0
        logits = self.model.lm_head(outputs.last_hidden_state[:, :-1][answered])
        losses = functional.cross_entropy(logits, ids[:, 1:][answered], reduction="none")
        answers = torch.stack([(losses * weights[answered]).sum(), weights.sum()])
        labels = [self.labeller.labels(item, [scenes[place] for place in item.images]) for item in batch]
        return torch.cat([answers[None], self.readings.losses(outputs.hidden_states, labels)])

    def _publish(self, step: int) -> None:
        export_model(self.model, self.tokenizer, FOLDER)
        self._report_vision(step)


def _tokenizer(folder: Path, seed: int) -> PreTrainedTokenizerFast:
    """The tokenizer of an earlier run, else a new one: weights in a checkpoint go with one vocabulary."""
    if not folder.exists():
        train_tokenizer(seed).save_pretrained(folder)
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder)
    return tokenizer


def _groups(rng: random.Random, images: list[Image]) -> list[list[Image]]:
    """Deals the images out to dialogues: mostly one each, sometimes two, seldom three."""
    groups = []
    while images:
        size = rng.choices((1, 2, 3), weights=(72, 26, 2))[0]
        groups.append(images[:size])
        images = images[size:]
    return groups


def main() -> None:
    """Reads the command line and runs the stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=88, help="wall-clock limit of both training stages together")
    parser.add_argument("--vision-share", type=float, default=0.16, help="share of the limit for the vision stage")
    parser.add_argument("--vision-steps", type=int, default=6000)
    parser.add_argument("--dialogue-steps", type=int, default=10000)
    parser.add_argument("--pictures", type=int, default=40000, help="pictures in the bank (28 kB each)")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    # The tokenizer's own threads would only get in the way of torch's.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    started = time.monotonic()
    trainer = Trainer(FOLDER / "checkpoints", arguments.images, arguments.seed)
    vision_minutes = arguments.minutes * arguments.vision_share
    trainer.train_vision(Stage("vision", arguments.vision_steps, vision_minutes, vision_rate=3e-4, language_rate=0))
    dialogue_minutes = arguments.minutes - vision_minutes
    trainer.train_dialogues(
        Stage("dialogue", arguments.dialogue_steps, dialogue_minutes, vision_rate=3e-4, language_rate=1e-3)
    )
    print(f"done in {(time.monotonic() - started) / 60:.1f} min", flush=True)


if __name__ == "__main__":
    main()
