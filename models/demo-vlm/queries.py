"""Search queries and claims about a scene, and whether they hold."""

from __future__ import annotations

import random

from scenes import COLOUR_NAMES, SHAPES, Scene, Shape


def article(words: str) -> str:
    """`words` with "a" or "an" before them."""
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


def random_query(rng: random.Random, scene: Scene, wanted: bool) -> tuple[str, bool]:
    """A search query and whether it describes the scene; `wanted` says which of the two to aim at."""
    kind, colour, background = random_claim(rng, scene, wanted)
    shape_fits = any((kind in (None, s.kind)) and (colour in (None, s.colour)) for s in scene.shapes)
    style = rng.random()
    if style < 0.10 or (wanted and not scene.shapes):
        words = f"{background} background" if scene.shapes or rng.random() < 0.5 else f"plain {background} image"
        if words.startswith("plain"):
            return words, not scene.shapes and background == scene.background
        return rng.choice((words, article(words))), background == scene.background
    if style < 0.24:
        fits = shape_fits and background == scene.background
        thing = named_thing(rng, kind, colour, with_article=rng.random() < 0.6)
        return f"{thing} on {article(background)} background", fits
    if style < 0.34 and colour and kind is None:
        present = {shape.colour for shape in scene.shapes}
        # Whether a red background makes an image "something red" is a matter of taste, so it is not asked.
        if colour != scene.background:
            return rng.choice((f"something {colour}", colour, f"{article(colour)} object")), colour in present
    thing = named_thing(rng, kind, colour, with_article=rng.random() < 0.4)
    plural = rng.random() < 0.06 and not thing.startswith(("a ", "an "))
    return f"{thing}s" if plural else thing, shape_fits


def random_claim(rng: random.Random, scene: Scene, true: bool) -> tuple[str | None, str | None, str]:
    """Kind, colour (either may be left open) and background that hold of the scene, or miss it by little or by much."""
    shape = rng.choice(scene.shapes) if scene.shapes else Shape(rng.choice(SHAPES), rng.choice(COLOUR_NAMES), ())
    kind: str | None = shape.kind
    colour: str | None = shape.colour
    background = scene.background
    if not true:
        miss = rng.random()
        other_kind, other_colour = rng.choice(SHAPES), rng.choice(COLOUR_NAMES)
        if miss < 0.18:
            kind, background = other_kind, rng.choice((background, rng.choice(COLOUR_NAMES)))
        elif miss < 0.36:
            colour, background = other_colour, rng.choice((background, other_colour, rng.choice(COLOUR_NAMES)))
        elif miss < 0.44:
            colour, background = background, shape.colour
        elif miss < 0.50 and len(scene.shapes) > 1:
            kind, colour = shape.kind, rng.choice(scene.shapes).colour
            background = other_colour
        else:
            kind, colour, background = other_kind, other_colour, rng.choice(COLOUR_NAMES)
    left_open = rng.random()
    if left_open < 0.14:
        kind = None
    elif left_open < 0.34:
        colour = None
    return kind, colour, background


def named_thing(rng: random.Random, kind: str | None, colour: str | None, with_article: bool) -> str:
    """Words such as "red circle", "a red shape", "circle": what is open stays open."""
    words = " ".join(word for word in (colour, kind or rng.choice(("shape", "object"))) if word)
    return article(words) if with_article else words


def with_article(query: str) -> str:
    """The query as part of a sentence."""
    bare = query.endswith("s") or query in COLOUR_NAMES
    return query if bare else article(query)


def query_fits(query: str, scene: Scene) -> bool:
    """Whether a query made by `random_query` describes a scene, read from its words."""
    subject, _, setting = query.partition(" on ")
    words = set(subject.removesuffix("s").split())
    if "background" in words or "plain" in words:
        plain_fits = "plain" not in words or not scene.shapes
        return plain_fits and scene.background in words
    if setting and scene.background not in setting.split():
        return False
    kinds, colours = words & set(SHAPES), words & set(COLOUR_NAMES)
    return any((not kinds or s.kind in kinds) and (not colours or s.colour in colours) for s in scene.shapes)
