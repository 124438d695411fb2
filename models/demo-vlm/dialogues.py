"""Dialogues: questions about images, introductions and small talk, combined as people do.

A dialogue is a list of turns; images are referred to by their row in a bank. This module does not know pixels,
tokens or the model.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import phrases
from names import random_name, random_word
from questions import (
    Exchange,
    choice_exchange,
    claim_exchange,
    description_exchange,
    image_exchange,
    images_exchange,
)
from scenes import Scene, Shape
from wordings import other_question, with_context, wording


@dataclass(frozen=True)
class Turn:
    """One message. `images` are rows of the bank, placed before the text or, rarely, after it."""

    role: str
    text: str
    images: tuple[int, ...] = ()
    images_last: bool = False


Dialogue = tuple[Turn, ...]
Image = tuple[int, Scene]

_ANY_SCENE = Scene("white", (Shape("circle", "red", ((0.5, 0.5),)),))


def random_dialogue(rng: random.Random, images: Sequence[Image]) -> Dialogue:
    """One dialogue that shows all of `images` (none, one or several)."""
    if len(images) > 1:
        turns = _several_images(rng, images)
    elif images:
        turns = _one_image(rng, images[0])
    else:
        turns = _no_image(rng)
    if rng.random() < 0.3:
        turns = [Turn("system", rng.choice(phrases.SYSTEM_MESSAGES)), *turns]
    return tuple(turns)


def _turns(question: str, answer: str, images: tuple[int, ...] = (), rng: random.Random | None = None) -> list[Turn]:
    last = bool(images) and rng is not None and rng.random() < 0.25
    return [Turn("user", question, images, last), Turn("assistant", answer)]


def _one_image(rng: random.Random, image: Image) -> list[Turn]:
    row, scene = image
    if rng.random() < 0.5:
        return _drill(rng, row, scene)
    turns: list[Turn] = []
    name = random_name(rng) if rng.random() < 0.12 else None
    if name is not None and rng.random() < 0.6:
        turns += _turns(*_introduction(rng, name))
    elif rng.random() < 0.06:
        turns += _turns(*_small_talk(rng))
    question, answer = image_exchange(rng, scene)
    if name is not None and not turns:
        question, answer = (
            f"{wording(rng, 'My name is {name}. ', name=name)}{question}",
            f"Nice to meet you, {name}. {answer}",
        )
    turns += _turns(with_context(rng, question), answer, (row,), rng)
    for _ in range(rng.choices((0, 1, 2, 3), weights=(35, 35, 20, 10))[0]):
        if rng.random() < 0.9:
            turns += _turns(*image_exchange(rng, scene))
        else:
            turns += _turns(*_text_exchange(rng))
    if name is not None and rng.random() < 0.8:
        turns += _turns(wording(rng, rng.choice(phrases.RECALL)), f"Your name is {name}.")
        if rng.random() < 0.4:
            turns += _turns(*image_exchange(rng, scene))
    return turns


def _drill(rng: random.Random, row: int, scene: Scene) -> list[Turn]:
    """Many yes-or-no questions about one image: comparing words with an image is the slowest to be learnt."""
    turns: list[Turn] = []
    for number in range(rng.randint(3, 8)):
        question, answer = claim_exchange(rng, scene)
        turns += _turns(question, answer, () if number else (row,), rng)
    return turns


def _several_images(rng: random.Random, images: Sequence[Image]) -> list[Turn]:
    rows, scenes = tuple(row for row, _ in images), [scene for _, scene in images]
    turns: list[Turn] = []
    if rng.random() < 0.4:
        for number in range(rng.randint(3, 7)):
            turns += _turns(*choice_exchange(rng, scenes), () if number else rows, rng)
        return turns
    if rng.random() < 0.25:
        for number, (row, scene) in enumerate(images):
            question, answer = image_exchange(rng, scene) if rng.random() < 0.5 else description_exchange(rng, scene)
            turns += _turns(
                question.replace("this", "the last") if number and rng.random() < 0.2 else question, answer, (row,), rng
            )
    else:
        question, answer = images_exchange(rng, scenes)
        turns += _turns(with_context(rng, question), answer, rows, rng)
    for _ in range(rng.choices((0, 1, 2, 4), weights=(20, 30, 20, 30))[0]):
        turns += _turns(*images_exchange(rng, scenes))
    return turns


def _no_image(rng: random.Random) -> list[Turn]:
    style = rng.random()
    if style < 0.12:
        return _chat(rng, rng.choices((1, 2, 3), weights=(60, 30, 10))[0])
    if style < 0.18:
        question, _ = image_exchange(rng, _ANY_SCENE) if rng.random() < 0.9 else (rng.choice(phrases.READ_TEXT), "")
        return [
            *(_chat(rng, 1) if rng.random() < 0.2 else []),
            *_turns(with_context(rng, question), phrases.NO_IMAGE),
        ]
    if style < 0.22:
        recall = wording(rng, rng.choice(phrases.RECALL))
        return [*_chat(rng, rng.choice((0, 0, 1))), *_turns(recall, phrases.NAME_UNKNOWN)]
    if style < 0.26:
        word = random_word(rng)
        turns = _turns(wording(rng, rng.choice(phrases.WORD_TELL), word=word), "I will remember it.")
        turns += _chat(rng, rng.choice((0, 0, 1)))
        return turns + _turns(wording(rng, rng.choice(phrases.WORD_RECALL)), f"The word is {word}.")
    if style < 0.56:
        return _repetition(rng)
    return _acquaintance(rng)


def _repetition(rng: random.Random) -> list[Turn]:
    """Someone asks to repeat words: what teaches copying fastest, because nearly every token of it is copied."""
    words = " ".join(rng.choice((random_word, random_name))(rng) for _ in range(rng.randint(1, 8)))
    return _turns(wording(rng, rng.choice(phrases.REPEAT), words=words), words)


def _acquaintance(rng: random.Random) -> list[Turn]:
    """Someone says a name and asks for it, at once or after other turns; sometimes it is replaced by another."""
    turns = _chat(rng, rng.choice((0, 0, 0, 1)))
    name = random_name(rng)
    turns += _turns(*_introduction(rng, name))
    if rng.random() < 0.07:
        name = random_name(rng)
        turns += _turns(
            wording(rng, rng.choice(("Actually, my name is {name}.", "No, my name is {name}.")), name=name),
            f"Nice to meet you, {name}.",
        )
    turns += _chat(rng, rng.choices((0, 1, 2, 4), weights=(55, 25, 14, 6))[0])
    turns += _turns(wording(rng, rng.choice(phrases.RECALL)), f"Your name is {name}.")
    if rng.random() < 0.15:
        turns += _turns(wording(rng, rng.choice(phrases.RECALL)), f"Your name is {name}.")
    return turns


def _chat(rng: random.Random, exchanges: int) -> list[Turn]:
    return [turn for _ in range(exchanges) for turn in _turns(*_text_exchange(rng))]


def _text_exchange(rng: random.Random) -> Exchange:
    return _small_talk(rng) if rng.random() < 0.35 else (other_question(rng), phrases.ABILITIES)


def _small_talk(rng: random.Random) -> Exchange:
    wordings, answer = rng.choice(phrases.SMALL_TALK)
    return wording(rng, rng.choice(wordings)), answer


def _introduction(rng: random.Random, name: str) -> Exchange:
    return wording(rng, rng.choice(phrases.INTRODUCE), name=name), f"Nice to meet you, {name}."
