"""Captions: wordings of prompts for a scene, and the few reserved for the evaluation."""

from __future__ import annotations

import random

# {it}: "a red circle"; {colour}, {shape}: its parts; {ground}: "blue".
USUAL = "{it} on a {ground} background"
WORDINGS = (
    USUAL,
    "{it} on {ground}",
    "{it}, {ground} background",
    "{it} in front of a {ground} background",
    "{it} against a {ground} background",
    "{it} over a {ground} background",
    "{it} on a plain {ground} background",
    "{it} on a solid {ground} background",
    "{it} with a {ground} background",
    "{colour} {shape}, {ground} background",
    "{colour} {shape} on {ground}",
    "{colour} {shape} on {ground} background",
    "{colour} {shape} on a {ground} background",
    "a {ground} background with {it}",
    "{ground} background, {colour} {shape}",
    "{it} and a {ground} background",
    "a {shape} in {colour} on a {ground} background",
    "a {shape} that is {colour}, on a {ground} background",
    "the {colour} {shape} on the {ground} background",
    "one {colour} {shape} on a {ground} background",
    "{it} in the middle of a {ground} background",
    "there is {it} on a {ground} background",
    "a {colour} coloured {shape} on a {ground} background",
    "a simple {colour} {shape} on a {ground} background",
    "background: {ground}, shape: {shape}, colour: {colour}",
)
OPENINGS = (
    "a picture of ", "an image of ", "a drawing of ", "draw ", "paint ", "please draw ", "generate an image of ",
    "create a picture of ", "show me ", "make ", "a photo of ", "an illustration of ",
)  # fmt: skip
# Without a background there is a white one.
BARE = ("{it}", "{colour} {shape}", "the {colour} {shape}")
UNSEEN_WORDINGS = (
    "{it} placed on a {ground} background",
    "picture: {it}, background {ground}",
    "on a {ground} background, {it}",
)
OTHER_SPELLINGS = {"gray": "grey", "coloured": "colored", "colour": "color"}


def caption(rng: random.Random, colour: str, shape: str, ground: str) -> str:
    """A prompt for the scene, often in the usual wording; one for a white background may not mention it."""
    if ground == "white" and rng.random() < 0.15:
        wording = rng.choice(BARE)
    else:
        wording = USUAL if rng.random() < 0.35 else rng.choice(WORDINGS)
    if rng.random() < 0.25 and not wording.startswith(("background", "there")):
        wording = rng.choice(OPENINGS) + wording
    text = phrase(wording, colour, shape, ground)
    for usual, other in OTHER_SPELLINGS.items():
        if rng.random() < 0.3:
            text = text.replace(usual, other)
    style = rng.random()
    if style < 0.35:
        text = text[0].upper() + text[1:]
    elif style < 0.38:
        text = text.upper()
    return text + (rng.choice((".", ".", "!")) if rng.random() < 0.3 else "")


def phrase(wording: str, colour: str, shape: str, ground: str) -> str:
    """The wording with the names filled in and the articles corrected."""
    text = wording.format(it=f"a {colour} {shape}", colour=colour, shape=shape, ground=ground)
    return text.replace("a orange", "an orange")


def random_names(rng: random.Random, colours: tuple[str, ...], shapes: tuple[str, ...]) -> tuple[str, str, str]:
    """Colour, shape and background of a scene, the two colours different."""
    colour, ground = rng.sample(colours, 2)
    return colour, rng.choice(shapes), ground
