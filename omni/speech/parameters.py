"""The parameters of a speech, its request, and how long a text may take to speak."""

from __future__ import annotations

import base64
from typing import Any, Literal

import msgspec

from omni.errors import InvalidParameters
from omni.images.parameters import draw_seed

Format = Literal["wav", "mp3", "flac"]
MIN_S_PER_LETTER = 0.02
"""Fast speakers take 0.05 s for a letter."""
MAX_S_PER_CHARACTER = 2.0
"""Slow speakers take 0.1 s for a letter and 0.5 s for a Chinese character; a digit may be a word."""
SLACK_S = 5.0
"""Silence before and after a short text."""
LETTERS_SLACK = 10
"""So many letters may be left unspoken: markup, or signs that a model does not read out."""


class SpeechOptions(msgspec.Struct, frozen=True):
    """What a caller may set for a speech; `None` stands for the model's own choice."""

    voice: str | None = None
    language: str | None = None
    instructions: str | None = None
    reference_text: str | None = None
    speed: float = 1.0
    format: Format = "wav"
    seed: int | None = None


class SpeechParameters(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything that determines a speech, as results and files contain it; a reference's samples are left out."""

    model: str
    text: str
    format: Format
    seed: int
    speed: float
    voice: str | None = None
    language: str | None = None
    instructions: str | None = None
    reference_audio: bool = False
    reference_text: str | None = None

    @property
    def extension(self) -> str:
        """The ending of the file's name."""
        return f".{self.format}"

    def request(self, reference_wav: bytes | None) -> dict[str, Any]:
        """The fields of a request, without the model's name."""
        optional = {
            "voice": self.voice,
            "language": self.language,
            "instructions": self.instructions,
            "ref_text": self.reference_text,
        }
        fields: dict[str, Any] = {
            "input": self.text,
            "response_format": self.format,
            "speed": self.speed,
            "seed": self.seed,
            **{name: value for name, value in optional.items() if value is not None},
        }
        if reference_wav is not None:
            fields["ref_audio"] = "data:audio/wav;base64," + base64.b64encode(reference_wav).decode("ascii")
        return fields


def resolve_speech(model: str, text: str, options: SpeechOptions, *, has_reference: bool) -> SpeechParameters:
    """The complete parameters of a speech.

    Raises: `InvalidParameters` for a text without words, and for options that exclude each other.
    """
    if not text.strip():
        raise InvalidParameters("The text is empty: there is nothing to say.")
    if has_reference and options.voice is not None:
        raise InvalidParameters("Give voice or reference_audio, not both: each says who speaks.")
    if options.reference_text is not None and not has_reference:
        raise InvalidParameters("reference_text is what is said in reference_audio, which is missing.")
    fields = {name: getattr(options, name) for name in options.__struct_fields__ if name != "seed"}
    seed = draw_seed() if options.seed is None else options.seed
    return SpeechParameters(model=model, text=text, seed=seed, reference_audio=has_reference, **fields)


def shortest_s(parameters: SpeechParameters) -> float:
    """The fewest seconds that must be heard of a text."""
    n_letters = sum(map(str.isalnum, parameters.text))
    return MIN_S_PER_LETTER * max(min(n_letters, 1), n_letters - LETTERS_SLACK) / parameters.speed


def longest_s(parameters: SpeechParameters) -> float:
    """The most seconds that a text may take."""
    return (SLACK_S + MAX_S_PER_CHARACTER * len(parameters.text)) / parameters.speed
