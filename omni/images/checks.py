"""Checked images: how likely each shows its prompt, as a vision model answered, and which of several is the best.

This module knows the figures, not who is asked.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

THRESHOLD = 0.5
"""The lowest probability of an image that shows its prompt."""
SHOWS, MISSES = "shows the prompt", "misses the prompt"


class PartCheck(msgspec.Struct, frozen=True):
    """A part of the prompt, and the probability that the image shows it."""

    text: str
    probability: float


class Judgement(msgspec.Struct, frozen=True):
    """The answers about one image: to the whole prompt, and to each of its parts where it has several."""

    whole: float
    parts: list[PartCheck]

    @property
    def probability(self) -> float:
        """The lowest of all answers: an image that misses one part misses the prompt."""
        return min([self.whole, *(part.probability for part in self.parts)])

    @property
    def rank(self) -> tuple[float, float]:
        """The higher, the better; the mean decides between equal probabilities."""
        answers = [self.whole, *(part.probability for part in self.parts)]
        return self.probability, sum(answers) / len(answers)


class ImageCheck(msgspec.Struct, frozen=True):
    """What the check of an image found, as results have it; `model` is the one that was asked."""

    verdict: str
    probability: float
    threshold: float
    parts: list[PartCheck]
    model: str


class Candidate(msgspec.Struct, frozen=True):
    """One of the images that a result was chosen from; its seed makes it again. Null is what is not known."""

    index: int
    seed: int
    probability: float | None
    parts: list[PartCheck]
    chosen: bool
    error: str | msgspec.UnsetType = msgspec.UNSET


def best(judgements: Sequence[Judgement | None]) -> int:
    """The index of the best image: the first of the best ones that were judged, or 0 if none was."""
    judged = [index for index, judgement in enumerate(judgements) if judgement is not None]
    return max(judged, key=lambda index: _rank(judgements[index]), default=0)


def check_of(judgement: Judgement, model: str) -> ImageCheck:
    """The check of an image with its verdict."""
    verdict = SHOWS if judgement.probability >= THRESHOLD else MISSES
    return ImageCheck(verdict, judgement.probability, THRESHOLD, judgement.parts, model)


def miss_note(judgement: Judgement, prompt: str) -> str | None:
    """What an image misses, in a sentence; `None` for one that shows its prompt."""
    if judgement.probability >= THRESHOLD:
        return None
    missing = [part for part in judgement.parts if part.probability < THRESHOLD]
    shown = [(part.text, part.probability) for part in missing] or [(prompt, judgement.whole)]
    texts = ", ".join(f"'{_short(text)}' ({probability:.2f})" for text, probability in shown)
    return f"The image misses the prompt. Least likely to be seen in it, with the probability: {texts}."


def _rank(judgement: Judgement | None) -> tuple[float, float]:
    return (-1.0, -1.0) if judgement is None else judgement.rank


def _short(text: str) -> str:
    return text if len(text) <= 100 else text[:99] + "…"
