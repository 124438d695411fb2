"""Checks of the model's answers to the evaluation samples."""

from __future__ import annotations

import re
from collections.abc import Callable

from drawings import KINDS, SHADES, Drawing


def a(words: str) -> str:
    """`words` with their article."""
    return ("an " if words[0] in "aeiou" else "a ") + words


def words_of(answer: str) -> list[str]:
    """The lower-case words of an answer, shapes in the singular, American spelling."""
    plural = {f"{kind}s": kind for kind in KINDS} | {"grey": "gray"}
    return [plural.get(word, word) for word in re.findall(r"[a-z]+|\d+", answer.lower())]


def says_colour(colour: str) -> Callable[[str], bool]:
    """The answer names that colour and no other."""
    return lambda answer: {word for word in words_of(answer) if word in SHADES} == {colour}


def says_kind(kind: str) -> Callable[[str], bool]:
    """The answer names that kind of shape and no other."""
    return lambda answer: {word for word in words_of(answer) if word in KINDS} == {kind}


def says_drawing(drawing: Drawing) -> Callable[[str], bool]:
    """The answer names every shape with its colour, as often as it is there, and the background; nothing else."""

    def accepts(answer: str) -> bool:
        known = [word for word in words_of(answer) if word in SHADES or word in KINDS]
        pairs = sorted(zip(known[0::2], known[1::2], strict=False))
        return known[-1:] == [drawing.background] and pairs == sorted(drawing.things)

    return accepts


def says_first(word: str) -> Callable[[str], bool]:
    """The answer begins with that word, in any case."""
    return lambda answer: words_of(answer)[:1] == [word]


def says_number(number: int) -> Callable[[str], bool]:
    """The answer holds that number, as a digit or a word, and no other."""
    spelt = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5}

    def accepts(answer: str) -> bool:
        found = {int(word) if word.isdigit() else spelt.get(word) for word in words_of(answer)} - {None}
        return found == {number}

    return accepts


def says_ordinal(ordinal: str) -> Callable[[str], bool]:
    """The answer points to the first or to the second image, not to both."""
    return lambda answer: {word for word in words_of(answer) if word in ("first", "second")} == {ordinal}
