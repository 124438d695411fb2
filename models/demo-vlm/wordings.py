"""Random variations in wording: fills in templates, and varies their spelling and framing."""

from __future__ import annotations

import random

import phrases
from names import random_word


def wording(rng: random.Random, template: str, **fields: object) -> str:
    """Fills a template, after varying its spelling the way people do; what is filled in stays as it is."""
    fields = {"image": rng.choice(phrases.IMAGE_WORDS), "color": rng.choice(("color", "color", "colour")), **fields}
    style = rng.random()
    if style < 0.08:
        template = template[0].lower() + template[1:]
    elif style < 0.14:
        template = template.lower()
    if template[-1] in ".?!" and rng.random() < 0.12:
        template = template[:-1]
    elif rng.random() < 0.04:
        template = f"{rng.choice(('Please', 'Hi!', 'OK.', 'Now,', 'So,', 'Hello,'))} {template}"
    return template.format(**fields)


def with_context(rng: random.Random, question: str) -> str:
    """Sometimes adds what applications add: where an image was taken, how to answer."""
    if rng.random() < 0.12:
        context = rng.choice(phrases.CONTEXTS).format(**_fillers(rng))
        separator = rng.choice((" ", "\n", "\n\n"))
        question = f"{context}{separator}{question}" if rng.random() < 0.8 else f"{question}{separator}{context}"
    if rng.random() < 0.08:
        request = rng.choice(phrases.STYLE_REQUESTS)
        question = f"{question} {request}" if rng.random() < 0.7 else f"{request} {question}"
    return question


def other_question(rng: random.Random) -> str:
    """A message about something other than shapes and names."""
    if rng.random() < 0.15:
        return " ".join(random_word(rng) for _ in range(rng.randint(1, 10)))
    return wording(rng, rng.choice(phrases.OTHER_QUESTIONS), **_fillers(rng))


def _fillers(rng: random.Random) -> dict[str, object]:
    return {
        "topic": rng.choice(phrases.TOPICS) if rng.random() < 0.8 else random_word(rng),
        "place": rng.choice(phrases.PLACES) if rng.random() < 0.8 else random_word(rng).capitalize(),
        "word": random_word(rng),
        "word2": random_word(rng),
        "a": rng.randint(0, 999),
        "b": rng.randint(0, 99),
        "year": rng.randint(1950, 2030),
        "month": rng.randint(1, 12),
        "day": rng.randint(1, 28),
    }
