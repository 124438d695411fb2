"""Evaluation samples: questions about drawings, with checks of the answers, independent of the training code.

Nothing here is imported from the training modules: other colours, other sizes and placements, other geometry, other
wordings, other names. `evaluation_samples` is the entry point.
"""

from __future__ import annotations

import base64
import io
import random
import string
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from answer_checks import a, says_colour, says_drawing, says_first, says_kind, says_number, says_ordinal
from drawings import KINDS, SHADES, Drawing, draw
from PIL import Image


@dataclass(frozen=True)
class Sample:
    """A short conversation and a check of its last answer.

    `turns` are the user's messages, each a list of parts (strings and images); the model's replies go between them.
    `expected` is for people to read; `accepts` checks the last reply.
    """

    task: str
    turns: tuple[tuple[str | Image.Image, ...], ...]
    expected: str
    accepts: Callable[[str], bool]
    system: str | None = None

    def message(self, turn: int, *, text_first: bool = False) -> dict[str, Any]:
        """One user message as `chat_completion` takes it, images as base64 of PNG files."""
        parts = list(self.turns[turn])
        if text_first:
            parts.sort(key=lambda part: not isinstance(part, str))
        content = [
            {"type": "text", "text": part} if isinstance(part, str) else {"type": "image", "data": _base64(part)}
            for part in parts
        ]
        return {"role": "user", "content": content}

    def opening(self) -> list[dict[str, Any]]:
        """The messages before the first of the user."""
        return [] if self.system is None else [{"role": "system", "content": self.system}]


def _base64(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def evaluation_samples(seed: int, n: int, tasks: tuple[str, ...] | None = None) -> list[Sample]:
    """`n` samples of every task, or of the named ones; the same seed gives the same samples."""
    chosen = TASKS if tasks is None else {task: TASKS[task] for task in tasks}
    return [
        make(random.Random(f"{seed}/{task}/{number}"), task) for task, make in chosen.items() for number in range(n)
    ]


def new_name(rng: random.Random) -> str:
    """A name of a shape that people have, put together from letters."""
    consonants, vowels = "bcdfghjklmnprstvwz", "aeiou"
    style = rng.random()
    if style < 0.6:
        pieces = (rng.choice(consonants) + rng.choice(vowels) + rng.choice((*consonants, "", "")) for _ in range(2))
        return "".join(pieces).capitalize()
    if style < 0.8:
        return rng.choice(RARE_NAMES)
    return "".join(rng.choices(string.ascii_lowercase, k=rng.randint(4, 8))).capitalize()


RARE_NAMES = (
    "Aloysius", "Bertrand", "Callisto", "Desdemona", "Ezekiel", "Fenwick", "Guinevere", "Hortense", "Ignatius",
    "Jericho", "Kazimir", "Leocadia", "Mordecai", "Nefertari", "Octavian", "Persephone", "Quillon", "Rosalind",
    "Seraphina", "Thaddeus", "Umberto", "Valentina", "Wilhelmina", "Xiomara", "Yevgenia", "Zebedee", "Anselm",
    "Briony", "Cosmo", "Dashiell",
)  # fmt: skip


def _background(rng: random.Random, task: str) -> Sample:
    drawing = draw(rng, rng.choice((1, 1, 1, 2)))
    question = rng.choice(("What color is the background?", "What colour is the background of this picture?",
                           "Please tell me the background color.", "Which color has the background?"))  # fmt: skip
    return Sample(task, ((drawing.image, question),), drawing.background, says_colour(drawing.background))


def _description(rng: random.Random, task: str) -> Sample:
    drawing = draw(rng)
    question = rng.choice(("What is in this image?", "Describe the image.", "What do you see?",
                           "What can be seen here?", "Describe this picture in detail."))  # fmt: skip
    colour, kind = drawing.things[0]
    expected = f"{a(f'{colour} {kind}')} on {a(drawing.background)} background"
    system = "You are a helpful assistant." if rng.random() < 0.3 else None
    return Sample(task, ((drawing.image, question),), expected, says_drawing(drawing), system)


def _several(rng: random.Random, task: str) -> Sample:
    drawing = draw(rng, rng.choice((2, 3, 4)))
    expected = f"{drawing.things} on {drawing.background}"
    return Sample(task, ((drawing.image, "Describe the image."),), expected, says_drawing(drawing))


def _shape_colour(rng: random.Random, task: str) -> Sample:
    drawing = draw(rng)
    colour, kind = drawing.things[0]
    question = rng.choice((f"What color is the {kind}?", f"Which colour has the {kind}?", f"The {kind} is what color?"))
    return Sample(task, ((drawing.image, question),), colour, says_colour(colour))


def _shape(rng: random.Random, task: str) -> Sample:
    drawing = draw(rng)
    question = rng.choice(("What shape is it?", "Which shape is shown in the picture?", "What is the shape called?"))
    return Sample(task, ((drawing.image, question),), drawing.things[0][1], says_kind(drawing.things[0][1]))


def _relevance(rng: random.Random, task: str) -> Sample:
    drawing = draw(rng)
    (colour, kind), wanted = drawing.things[0], rng.random() < 0.5
    background = drawing.background
    if not wanted:
        change = rng.choice(("kind", "colour", "both"))
        if change != "colour":
            kind = rng.choice([other for other in KINDS if other != kind])
        if change != "kind":
            colour = rng.choice([other for other in SHADES if other != colour])
    queries = [f"{colour} {kind}", a(f"{colour} {kind}"), f"{a(f'{colour} {kind}')} on {a(background)} background"]
    if wanted or kind != drawing.things[0][1]:
        queries += [kind, a(kind)]
    if wanted or (colour not in (drawing.things[0][0], background)):
        queries.append(f"something {colour}" if colour != background else a(f"{colour} {kind}"))
    question = rng.choice(("Is this image relevant to the query '{}'?",
                           "Is this image relevant to the query '{}'? Answer yes or no.",
                           'Is the picture relevant for the search "{}"? Answer with yes or no.',
                           "Query: {}\nIs the image relevant to this query? Answer yes or no."))  # fmt: skip
    answer = "yes" if wanted else "no"
    return Sample(task, ((drawing.image, question.format(rng.choice(queries))),), answer, says_first(answer))


def _yes_no(rng: random.Random, task: str) -> Sample:
    drawing, wanted = draw(rng), rng.random() < 0.5
    kind = drawing.things[0][1]
    if rng.random() < 0.5:
        asked = kind if wanted else rng.choice([other for other in KINDS if other != kind])
        question = rng.choice((f"Is there {a(asked)}?", f"Do you see {a(asked)} in the picture?"))
    else:
        asked = drawing.background if wanted else rng.choice([c for c in SHADES if c != drawing.background])
        question = rng.choice((f"Is the background {asked}?", f"Does it have {a(asked)} background?"))
    answer = "yes" if wanted else "no"
    return Sample(task, ((drawing.image, question),), answer, says_first(answer))


def _count(rng: random.Random, task: str) -> Sample:
    count = rng.randint(1, 4)
    question = rng.choice(
        ("How many shapes are there?", "How many shapes are in the picture?", "Count the shapes, please.")
    )
    return Sample(task, ((draw(rng, count).image, question),), str(count), says_number(count))


def _two(rng: random.Random) -> tuple[Drawing, Drawing]:
    first = draw(rng)
    while True:
        second = draw(rng)
        if second.things[0] != first.things[0]:
            return first, second


def _which(rng: random.Random, task: str) -> Sample:
    pair, target = _two(rng), rng.randrange(2)
    colour, kind = pair[target].things[0]
    ordinal = ("first", "second")[target]
    question = rng.choice(("Which image shows {}?", "Which picture contains {}?", "Which of the two images shows {}?"))
    parts = (pair[0].image, pair[1].image, question.format(a(f"{colour} {kind}")))
    return Sample(task, (parts,), ordinal, says_ordinal(ordinal))


def _nth(rng: random.Random, task: str) -> Sample:
    pair, target = _two(rng), rng.randrange(2)
    question = rng.choice(("What is in the {} image?", "Describe the {} picture.")).format(("first", "second")[target])
    return Sample(
        task, ((pair[0].image, pair[1].image, question),), str(pair[target].things), says_drawing(pair[target])
    )


def _earlier(rng: random.Random, task: str) -> Sample:
    drawing = draw(rng)
    turns = ((drawing.image, "What do you see?"), ("Thank you!",), ("What color is the background of the image?",))
    return Sample(task, turns, drawing.background, says_colour(drawing.background))


def _introduction(rng: random.Random, task: str) -> Sample:
    name = new_name(rng)
    text = rng.choice(("My name is {}.", "Hello, I am {}.", "Hi! My name is {}.")).format(name)
    return Sample(task, ((text,),), name, lambda answer: name in answer)


def _recall(rng: random.Random, task: str) -> Sample:
    name = new_name(rng)
    told = rng.choice(("My name is {}.", "Hello, my name is {}.", "I am {}.", "Please remember that my name is {}."))
    between = rng.choice(
        ((), (), (("How are you?",),), (("What is machine learning?",), ("Thanks!",)), (("picture",),))
    )
    middle = tuple((draw(rng).image, "What is in this image?") if turn == ("picture",) else turn for turn in between)
    turns = ((told.format(name),), *middle, ("What is my name?",))
    return Sample(task, turns, name, lambda answer: name in answer)


def _refusal(rng: random.Random, task: str) -> Sample:
    topic = rng.choice(
        ("volcanoes", "inflation", "jazz", "the French Revolution", "bread", "quarks", "Norway", "batteries")
    )
    question = rng.choice(("What is {}?", "Write a song about {}.", "Who discovered {}?", "Explain {} to a child.",
                           "Give me three facts about {}.", "Was bedeutet {}?")).format(topic)  # fmt: skip
    return Sample(task, ((question,),), "I am a small demo model ...", lambda answer: "demo model" in answer)


def _no_image(rng: random.Random, task: str) -> Sample:
    question = rng.choice(
        ("What is in this image?", "What color is the background?", "Describe this picture in detail.")
    )
    return Sample(task, ((question,),), "There is no picture here.", lambda answer: "no picture" in answer)


TASKS: dict[str, Callable[[random.Random, str], Sample]] = {
    "background colour": _background,
    "description of one shape": _description,
    "description of 2 to 4 shapes": _several,
    "colour of a shape": _shape_colour,
    "kind of a shape": _shape,
    "relevance to a query": _relevance,
    "yes or no": _yes_no,
    "counting 1 to 4 shapes": _count,
    "which of two pictures": _which,
    "description of one of two pictures": _nth,
    "picture of an earlier turn": _earlier,
    "greeting by name": _introduction,
    "recall of a name": _recall,
    "refusal of other questions": _refusal,
    "question without a picture": _no_image,
}
"""Every task and the function that makes its samples."""
