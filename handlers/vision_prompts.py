"""What the model is asked about pictures.

The picture comes first in every prompt and what is known of it second, so that the question whether it is relevant
and the query about it begin alike and the engine's caches serve the second.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from engine.interface import ImagePart, Message, TextPart

YES_NO = ("yes", "no")

Metadata = str | dict[str, Any] | None

# A question or a sentence ends like one, in any script; without an end, keywords are at most this many words.
_SENTENCE_END = re.compile(r"[.?!:;。？！؟…][\"'”’»)\]]*\s*$")
MOST_KEYWORDS = 6


def relevance_prompt(image: ImagePart, query: str, metadata: Metadata) -> tuple[Message, ...]:
    """Whether a picture is relevant to a query, to be answered by one of `YES_NO`."""
    quote = '"' if "'" in query else "'"
    question = f"Is this image relevant to the query {quote}{query.strip()}{quote}? Answer yes or no."
    return _prompt([image], _with_metadata(question, metadata))


def analysis_prompt(image: ImagePart, query: str, metadata: Metadata) -> tuple[Message, ...]:
    """The query about one picture."""
    return _prompt([image], _with_metadata(instruction(query), metadata))


def comparison_prompt(
    images: Sequence[ImagePart], query: str, numbers: Sequence[int], metadata: Sequence[Metadata]
) -> tuple[Message, ...]:
    """The query about several pictures at once; `numbers` are theirs in the caller's list, from 1 on."""
    lines = [
        f"Image {number}: {known}"
        for number, each in zip(numbers, metadata, strict=True)
        if (known := _in_one_line(each))
    ]
    if list(numbers) != list(range(1, len(numbers) + 1)):
        lines.insert(0, f"These are images {', '.join(map(str, numbers))}.")
    return _prompt(images, "\n".join((*lines, instruction(query, "these images"))))


def summary_prompt(
    query: str, findings: Sequence[tuple[int, Metadata, str]], most_characters: int | None
) -> tuple[Message, ...]:
    """The query about pictures that were looked at one by one, out of what was found on each.

    Arguments: `findings`, each picture's number, metadata and analysis; `most_characters`, how much of each analysis
    is used, `None` for all.
    """
    lines = [
        f"{_numbered(number, metadata)}: {_shortened(text, most_characters)}" for number, metadata, text in findings
    ]
    parts = (
        f"{len(lines)} images were looked at one by one. What was found in each:",
        "\n".join(lines),
        f"Answer over all of them together: {query.strip()}",
    )
    return _prompt([], "\n\n".join(parts))


def instruction(query: str, what: str = "this image") -> str:
    """The query as something to do: keywords alone, such as "red circle", say only what to look for."""
    query = query.strip()
    if _SENTENCE_END.search(query) or len(query.split()) > MOST_KEYWORDS:
        return query
    return f"Query: {query}\nWhat do you see in {what}?"


def _prompt(images: Sequence[ImagePart], text: str) -> tuple[Message, ...]:
    return (Message("user", (*images, TextPart(text))),)


def _with_metadata(question: str, metadata: Metadata) -> str:
    if isinstance(metadata, str) and metadata.strip():
        return f"Context: {metadata.strip()}\n\n{question}"
    if isinstance(metadata, dict) and metadata:
        lines = [f"- {key}: {_plain(value)}" for key, value in metadata.items()]
        return "\n".join(("Image metadata:", *lines, "", question))
    return question


def _numbered(number: int, metadata: Metadata) -> str:
    known = _in_one_line(metadata)
    return f"Image {number} ({known})" if known else f"Image {number}"


def _in_one_line(metadata: Metadata) -> str:
    if isinstance(metadata, dict):
        return ", ".join(f"{key}: {_plain(value)}" for key, value in metadata.items())
    return " ".join((metadata or "").split())


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _shortened(text: str, most_characters: int | None) -> str:
    text = " ".join(text.split())
    return text if most_characters is None or len(text) <= most_characters else text[:most_characters] + "…"
