"""The prompts about images.

Every prompt begins with the image and its metadata. So the relevance check and the analysis of an image have a common
prefix, which the engine's prefix cache reuses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from engine.interface import ImagePart, Message, TextPart

Metadata = str | dict[str, Any] | None
Spoken = tuple[float, float, str]
"""A text with the times in seconds at which it begins and ends."""

MAX_SPEECH_CHARACTERS = 16_000
"""Twenty minutes of speech, about 4,000 tokens."""
SPEECH_SHARE = 8

# A question or a sentence has an end mark, in any script; without one, up to MAX_KEYWORDS words are keywords.
_SENTENCE_END = re.compile(r"[.?!:;。？！؟…][\"'”’»)\]]*\s*$")
MAX_KEYWORDS = 6


def relevance_prompt(image: ImagePart, query: str, metadata: Metadata) -> tuple[Message, ...]:
    """Asks whether an image is relevant to a query; the reply is yes or no."""
    quote = '"' if "'" in query else "'"
    question = f"Is this image relevant to the query {quote}{query.strip()}{quote}? Answer yes or no."
    return _prompt([image], _with_metadata(question, metadata))


def analysis_prompt(image: ImagePart, query: str, metadata: Metadata) -> tuple[Message, ...]:
    """Asks the query about one image."""
    return _prompt([image], _with_metadata(instruction(query), metadata))


def comparison_prompt(
    images: Sequence[ImagePart], query: str, numbers: Sequence[int], metadata: Sequence[Metadata]
) -> tuple[Message, ...]:
    """Asks the query about several images at once; `numbers` are their positions in the caller's list, from 1."""
    lines = [
        f"Image {number}: {known}"
        for number, each in zip(numbers, metadata, strict=True)
        if (known := _in_one_line(each))
    ]
    if list(numbers) != list(range(1, len(numbers) + 1)):
        lines.insert(0, f"These are images {', '.join(map(str, numbers))}.")
    return _prompt(images, "\n".join((*lines, instruction(query, "these images"))))


def summary_prompt(
    query: str, findings: Sequence[tuple[int, Metadata, str]], max_characters: int | None
) -> tuple[Message, ...]:
    """Asks the query about images that were analysed one by one, given their analyses.

    Arguments:
        query: the query.
        findings: number, metadata and analysis of each image.
        max_characters: how much of each analysis is used, `None` for all.
    """
    lines = [
        f"{_numbered(number, metadata)}: {_shortened(text, max_characters)}" for number, metadata, text in findings
    ]
    parts = (
        f"{len(lines)} images were looked at one by one. What was found in each:",
        "\n".join(lines),
        f"Answer over all of them together: {query.strip()}",
    )
    return _prompt([], "\n\n".join(parts))


def frame_prompt(image: ImagePart, query: str, time_s: float, duration_s: float) -> tuple[Message, ...]:
    """Asks the query about one frame of a video."""
    return analysis_prompt(image, query, f"a frame of a video of {_seconds(duration_s)}, at {_seconds(time_s)}.")


def frames_prompt(
    images: Sequence[ImagePart], query: str, times_s: Sequence[float], duration_s: float, speech: Sequence[Spoken]
) -> tuple[Message, ...]:
    """Asks the query about some frames of a video at once."""
    times = ", ".join(f"image {number} at {_seconds(time_s)}" for number, time_s in enumerate(times_s, 1))
    what = f"These images are frames of a video of {_seconds(duration_s)}: {times}."
    return _prompt(images, "\n".join((what, *_speech_lines(speech, None), instruction(query, "these images"))))


def frames_summary_prompt(
    query: str, findings: Sequence[Spoken], duration_s: float, speech: Sequence[Spoken], max_characters: int | None
) -> tuple[Message, ...]:
    """Asks the query about a video whose frames were analysed one by one, given their analyses.

    Arguments:
        query: the query.
        findings: the time of the first and the last frame with a text, and the text.
        duration_s: of the video.
        speech: what is said, with its times.
        max_characters: how much of each analysis is used, `None` for all; of the speech `SPEECH_SHARE` times as much.
    """
    parts = (
        f"Frames of a video of {_seconds(duration_s)} were looked at one by one. What was found in them:",
        "\n".join(
            f"{_span(first_s, last_s)}: {_shortened(text, max_characters)}" for first_s, last_s, text in findings
        ),
        "\n".join(_speech_lines(speech, max_characters)),
        f"Answer over the whole video: {query.strip()}",
    )
    return _prompt([], "\n\n".join(filter(None, parts)))


def instruction(query: str, what: str = "this image") -> str:
    """The query as an instruction; keywords alone, such as "red circle", become a question."""
    query = query.strip()
    if _SENTENCE_END.search(query) or len(query.split()) > MAX_KEYWORDS:
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


def _shortened(text: str, max_characters: int | None) -> str:
    text = " ".join(text.split())
    return text if max_characters is None or len(text) <= max_characters else text[:max_characters] + "…"


def _speech_lines(speech: Sequence[Spoken], max_characters: int | None) -> list[str]:
    if not speech:
        return []
    n_left = MAX_SPEECH_CHARACTERS if max_characters is None else SPEECH_SHARE * max_characters
    lines = ["What is said in the video:"]
    for start_s, end_s, text in speech:
        if n_left <= 0:
            return [*lines, "…"]
        lines.append(f"{_span(start_s, end_s)}: {_shortened(text, n_left)}")
        n_left -= len(text)
    return lines


def _span(start_s: float, end_s: float) -> str:
    return f"At {_seconds(start_s)}" if start_s == end_s else f"From {_seconds(start_s)} to {_seconds(end_s)}"


def _seconds(time_s: float) -> str:
    return f"{time_s:.2f}".rstrip("0").rstrip(".") + " s"
