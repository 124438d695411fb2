"""Questions about one image or several, with their answers."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import phrases
from queries import article, named_thing, query_fits, random_claim, random_query, with_article
from scenes import SHAPES, Scene
from wordings import other_question, wording

ORDINALS = ("first", "second", "third", "fourth")

Exchange = tuple[str, str]
"""A question and its answer."""


def join(items: Sequence[str]) -> str:
    """The items as an enumeration: "x, y and z"."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def sentence(words: str) -> str:
    """`words` with a capital letter and a full stop."""
    return f"{words[0].upper()}{words[1:]}."


def describe(scene: Scene) -> str:
    """What a scene shows, from left to right, without capital letter or full stop."""
    if not scene.shapes:
        return f"a plain {scene.background} image"
    shapes = sorted(scene.shapes, key=lambda shape: shape.centre[0])
    return f"{join([article(f'{s.colour} {s.kind}') for s in shapes])} on {article(scene.background)} background"


def count_answer(count: int, noun: str = "shape") -> str:
    """The sentence that tells how many there are."""
    if count == 0:
        return f"There are no {noun}s."
    return f"There is 1 {noun}." if count == 1 else f"There are {count} {noun}s."


def image_exchange(rng: random.Random, scene: Scene) -> Exchange:
    """A question about the one image, or the last, and its answer."""
    makers: tuple[tuple[Callable[[random.Random, Scene], Exchange], int], ...] = (
        (description_exchange, 26),
        (_background, 6),
        (_shape_colour, 6),
        (_shape_kind, 7),
        (_relevance, 27),
        (_yes_no, 14),
        (_count, 12),
        (_reading, 1),
        (_unrelated, 2),
    )
    maker = rng.choices([maker for maker, _ in makers], weights=[weight for _, weight in makers])[0]
    return maker(rng, scene)


def images_exchange(rng: random.Random, scenes: Sequence[Scene]) -> Exchange:
    """A question about several images, or one of several, and its answer."""
    style = rng.random()
    if style < 0.6:
        return choice_exchange(rng, scenes)
    target = rng.randrange(len(scenes))
    nth = ORDINALS[target]
    if style < 0.78:
        return wording(rng, rng.choice(phrases.NTH_DESCRIBE), nth=nth), sentence(describe(scenes[target]))
    if style < 0.87:
        return wording(rng, rng.choice(phrases.NTH_BACKGROUND), nth=nth), sentence(scenes[target].background)
    if style < 0.96 or len(scenes) > 2:
        parts = [f"The {ORDINALS[number]} image shows {describe(scene)}." for number, scene in enumerate(scenes)]
        return wording(rng, rng.choice(phrases.DESCRIBE_ALL)), " ".join(parts)
    return wording(rng, rng.choice(phrases.HOW_MANY_IMAGES)), f"There are {len(scenes)} images."


def choice_exchange(rng: random.Random, scenes: Sequence[Scene]) -> Exchange:
    """A question which of several images shows something that one of them shows, and its answer; where the images
    are too alike for one, a request to describe one of them."""
    target = rng.randrange(len(scenes))
    for _ in range(8):
        query, fits = random_query(rng, scenes[target], wanted=True)
        if fits and sum(query_fits(query, scene) for scene in scenes) == 1:
            quoted = rng.choice(("{}", "{}", "{}", "'{}'")).format(
                query if query.startswith(("a ", "an ", "something")) or rng.random() < 0.3 else with_article(query)
            )
            return wording(rng, rng.choice(phrases.WHICH_IMAGE), query=quoted), f"The {ORDINALS[target]} image."
    nth = ORDINALS[target]
    return wording(rng, rng.choice(phrases.NTH_DESCRIBE), nth=nth), sentence(describe(scenes[target]))


def description_exchange(rng: random.Random, scene: Scene) -> Exchange:
    """A request to describe the image, and the description."""
    return wording(rng, rng.choice(phrases.DESCRIBE)), sentence(describe(scene))


def claim_exchange(rng: random.Random, scene: Scene) -> Exchange:
    """A question about the image that is answered by yes or no."""
    return (_relevance if rng.random() < 0.6 else _yes_no)(rng, scene)


def _background(rng: random.Random, scene: Scene) -> Exchange:
    return wording(rng, rng.choice(phrases.BACKGROUND)), sentence(scene.background)


def _shape_colour(rng: random.Random, scene: Scene) -> Exchange:
    kind = (
        rng.choice([shape.kind for shape in scene.shapes])
        if scene.shapes and rng.random() < 0.85
        else rng.choice(SHAPES)
    )
    colours = sorted({shape.colour for shape in scene.shapes if shape.kind == kind})
    if len(scene.shapes) == 1 and colours and rng.random() < 0.25:
        kind = rng.choice(("shape", "object"))
    question = wording(rng, rng.choice(phrases.SHAPE_COLOUR), shape=kind)
    return question, sentence(join(colours)) if colours else f"There is no {kind}."


def _shape_kind(rng: random.Random, scene: Scene) -> Exchange:
    kinds = sorted({shape.kind for shape in scene.shapes})
    question = wording(rng, rng.choice(phrases.WHICH_SHAPE if len(scene.shapes) < 2 else phrases.WHICH_SHAPES))
    return question, sentence(join([article(kind) for kind in kinds])) if kinds else "There are no shapes."


def _count(rng: random.Random, scene: Scene) -> Exchange:
    if rng.random() < 0.8:
        return wording(rng, rng.choice(phrases.COUNT)), count_answer(len(scene.shapes))
    kind = rng.choice([shape.kind for shape in scene.shapes] or SHAPES) if rng.random() < 0.7 else rng.choice(SHAPES)
    question = wording(rng, rng.choice(phrases.COUNT_KIND), shape=kind)
    return question, count_answer(sum(shape.kind == kind for shape in scene.shapes), kind)


def _reading(rng: random.Random, scene: Scene) -> Exchange:
    return wording(rng, rng.choice(phrases.READ_TEXT)), phrases.NO_TEXT


def _unrelated(rng: random.Random, scene: Scene) -> Exchange:
    return other_question(rng), phrases.ABILITIES


def _yes_no(rng: random.Random, scene: Scene) -> Exchange:
    wanted = rng.random() < 0.25
    kind, colour, background = random_claim(rng, scene, wanted)
    choices = [
        "Is the background {background}?",
        "Is the background of the {image} {background}?",
        "Is there a {background} background?",
    ]
    truth = background == scene.background
    if scene.shapes and rng.random() < 0.65:
        choices = [
            "Is there {thing}?",
            "Is there {thing} in this {image}?",
            "Do you see {thing}?",
            "Does the {image} show {thing}?",
            "Can you see {thing}?",
            "Does this {image} contain {thing}?",
        ]
        truth = any((kind in (None, s.kind)) and (colour in (None, s.colour)) for s in scene.shapes)
        thing = named_thing(rng, kind, colour, with_article=True)
        if len(scene.shapes) == 1 and rng.random() < 0.4:
            if kind and rng.random() < 0.5:
                choices, truth = ["Is it {thing}?", "Is the shape {thing}?", "Is this {thing}?"], truth
            elif colour:
                choices, truth = ["Is the {own} {colour}?", "Is the shape {colour}?"], colour == scene.shapes[0].colour
    else:
        thing = ""
    own = scene.shapes[0].kind if scene.shapes else "shape"
    question = wording(rng, rng.choice(choices), thing=thing, background=background, colour=colour, own=own)
    return question + rng.choice(phrases.YES_NO_SUFFIXES), "Yes." if truth else "No."


def _relevance(rng: random.Random, scene: Scene) -> Exchange:
    # Misses hold by chance now and then, so fewer than half are aimed to hold: about half of all answers are yes.
    wanted = rng.random() < 0.37
    if not wanted and rng.random() < 0.12:
        query, truth = rng.choice(phrases.UNRELATED_QUERIES), False
    else:
        query, truth = random_query(rng, scene, wanted)
    quote = rng.choice(("'", "'", "'", '"', '"', ""))
    question = wording(rng, rng.choice(phrases.RELEVANT), query=f"{quote}{query}{quote}")
    return question + rng.choice(phrases.YES_NO_SUFFIXES), "Yes." if truth else "No."
