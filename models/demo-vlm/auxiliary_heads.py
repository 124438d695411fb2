"""Auxiliary training targets of the text model: labels at some tokens of a dialogue.

"Yes" or "no" is one bit for a whole comparison of words with images, a weak teacher. So each word that a user asks
about is labelled with what it has to do with each image shown so far, each image token with its image's place, and
each image's end with what can be counted on it. The heads here are used in training only and are not part of the
published model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from architecture import TEXT_LAYERS, TEXT_WIDTH
from scenes import COLOUR_NAMES, MAX_SHAPES, SHAPES, Scene
from tokens import BEGIN, FAKE, GLOBAL, IMAGE, Rendered
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

MAX_IMAGES = 3
QUESTIONS = ("background has the colour", "a shape has the colour", "the words hold")
READINGS = ("words", "places", "counts", "backgrounds")
ANY_SHAPE, BACKGROUND = "shape", "background"
# The layers that are read: early for image tokens, later for words, which must have attended to the images; the last
# layers only combine the information.
IMAGE_LAYER = 2
WORD_LAYERS = (TEXT_LAYERS - 2, TEXT_LAYERS - 1)


@dataclass(frozen=True)
class Labels:
    """Labels of one dialogue: (position, class) pairs, and for words (position, head's column, whether it is so)."""

    words: list[tuple[int, int, bool]]
    places: list[tuple[int, int]]
    counts: list[tuple[int, int]]
    backgrounds: list[tuple[int, int]]


class Labeller:
    """Finds the tokens that get labels."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        known = {colour: colour for colour in COLOUR_NAMES} | {"grey": "gray", BACKGROUND: BACKGROUND}
        for noun in (*SHAPES, ANY_SHAPE, "object"):
            known[noun] = known[f"{noun}s"] = noun if noun in SHAPES else ANY_SHAPE
        texts = ((token, tokenizer.decode([token]).strip().lower()) for token in range(len(tokenizer)))
        self._words = {token: known[text] for token, text in texts if text in known}
        self._begin, self._fake, self._global, self._image = tokenizer.convert_tokens_to_ids(
            [BEGIN, FAKE, GLOBAL, IMAGE]
        )
        self._user = tokenizer.convert_tokens_to_ids("user")

    def labels(self, item: Rendered, scenes: Sequence[Scene]) -> Labels:
        """The labels of a rendered dialogue; `scenes` are its images in prompt order."""
        found = Labels([], [], [], [])
        shown, is_user, previous = 0, False, -1
        for position, token in enumerate(item.ids):
            if previous == self._begin:
                is_user = token == self._user
            elif token == self._global:
                shown += 1
            elif token == self._image:
                found.places.append((position, min(shown, MAX_IMAGES) - 1))
            elif token == self._fake and previous == self._image:
                scene = scenes[shown - 1]
                found.counts.append((position, len(scene.shapes)))
                found.backgrounds.append((position, COLOUR_NAMES.index(scene.background)))
            elif is_user and token in self._words:
                before = self._words.get(previous)
                colour = before if before in COLOUR_NAMES else None
                for place, scene in enumerate(scenes[: min(shown, MAX_IMAGES)]):
                    for question, truth in _truths(self._words[token], colour, scene):
                        found.words.append((position, place * len(QUESTIONS) + question, truth))
            previous = token
        return found


def _truths(word: str, colour: str | None, scene: Scene) -> list[tuple[int, bool]]:
    """The questions that a word raises, by their number, and their answers; `colour` is the word before it."""
    if word in COLOUR_NAMES:
        return [(0, scene.background == word), (1, any(shape.colour == word for shape in scene.shapes))]
    if word == BACKGROUND:
        return [(2, scene.background == colour)] if colour else []
    kinds = SHAPES if word == ANY_SHAPE else (word,)
    return [(2, any(s.kind in kinds and colour in (None, s.colour) for s in scene.shapes))]


class AuxiliaryHeads(nn.Module):
    """Linear readings of the text model's hidden states."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.ModuleList(nn.Linear(TEXT_WIDTH, MAX_IMAGES * len(QUESTIONS)) for _ in WORD_LAYERS)
        self.place = nn.Linear(TEXT_WIDTH, MAX_IMAGES)
        self.count = nn.Linear(TEXT_WIDTH, MAX_SHAPES + 1)
        self.background = nn.Linear(TEXT_WIDTH, len(COLOUR_NAMES))

    def losses(self, hidden_states: Sequence[Tensor], labels: Sequence[Labels]) -> Tensor:
        """Sums of cross-entropies and how many are in each, in the order of `READINGS`, shape (4, 2).

        Arguments: `hidden_states`, (batch, tokens, TEXT_WIDTH) after the embedding and after each layer.
        """
        images = hidden_states[IMAGE_LAYER]
        words = sum(
            self._word_losses(head, hidden_states[layer], [label.words for label in labels])
            for head, layer in zip(self.words, WORD_LAYERS, strict=True)
        )
        return torch.stack(
            [
                words,
                _class_losses(self.place, images, [label.places for label in labels]),
                _class_losses(self.count, images, [label.counts for label in labels]),
                _class_losses(self.background, images, [label.backgrounds for label in labels]),
            ]
        )

    @staticmethod
    def _word_losses(head: nn.Linear, hidden: Tensor, words: Sequence[Sequence[tuple[int, int, bool]]]) -> Tensor:
        rows, positions, columns, truths = _gathered(words, 3)
        logits = head(hidden[rows, positions])[torch.arange(len(rows)), columns]
        losses = functional.binary_cross_entropy_with_logits(logits, truths.float(), reduction="sum")
        return torch.stack([losses, torch.tensor(float(len(rows)))])


def _class_losses(head: nn.Linear, hidden: Tensor, pairs: Sequence[Sequence[tuple[int, int]]]) -> Tensor:
    rows, positions, classes = _gathered(pairs, 2)
    losses = functional.cross_entropy(head(hidden[rows, positions]), classes, reduction="sum")
    return torch.stack([losses, torch.tensor(float(len(rows)))])


def _gathered(entries: Sequence[Sequence[tuple[int, ...]]], width: int) -> tuple[Tensor, ...]:
    """The entries of all dialogues as columns, with the dialogue's number as the first."""
    flat = [(row, *entry) for row, of_one in enumerate(entries) for entry in of_one]
    columns: tuple[Tensor, ...] = torch.tensor(flat, dtype=torch.long).reshape(-1, width + 1).unbind(1)
    return columns
