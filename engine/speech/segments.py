"""Segments out of a text with its times, and what tells a good text from an invented one."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from engine.speech.languages import WITHOUT_SPACES
from engine.speech.windows import Window

MAX_COMPRESSION_RATIO = 2.4
MIN_AVG_LOGPROB = -1.0
MAX_NO_SPEECH_PROB = 0.6
"""OpenAI's limits: a text that compresses better is a loop; one that is less likely and has a greater probability of no
speech is invented."""
GUESS_LOGPROB = -2.0
"""A text that is less likely is invented, whatever the probability of no speech: whisper-base writes such texts for
tones and clicks (-2.3 to -3.1), and has -0.2 to -0.7 for a robot's voice."""
MIN_REST_S = 0.4
"""A shorter rest of a window holds no word."""

_MARK = re.compile(r"<\|(\d+\.\d\d)\|>")


@dataclass(frozen=True, slots=True)
class Segment:
    """What was said in one go, with its times from the beginning of the whole speech.

    `avg_logprob` is the mean log-probability of the tokens of its window, `no_speech_prob` the probability that nobody
    speaks in that window.
    """

    start_s: float
    end_s: float
    text: str
    avg_logprob: float
    no_speech_prob: float


@dataclass(frozen=True, slots=True)
class Written:
    """What the model wrote of one window.

    Arguments:
        window: the window.
        text: with its times, see `engine.interface.SpeechWindow`.
        is_whole: whether the model has ended the text itself.
        avg_logprob, no_speech_prob: see `Segment`.
    """

    window: Window
    text: str
    is_whole: bool
    avg_logprob: float
    no_speech_prob: float

    @property
    def compression_ratio(self) -> float:
        """How many times the text is longer than it is compressed; above `MAX_COMPRESSION_RATIO` it is a loop."""
        return compression_ratio(_MARK.sub("", self.text))

    @property
    def is_loop(self) -> bool:
        """Whether the model repeats itself."""
        return self.compression_ratio > MAX_COMPRESSION_RATIO

    @property
    def is_invented(self) -> bool:
        """Whether there is most likely no speech in the window."""
        return self.avg_logprob < GUESS_LOGPROB or (
            self.no_speech_prob > MAX_NO_SPEECH_PROB and (self.avg_logprob < MIN_AVG_LOGPROB or self.is_loop)
        )

    @property
    def is_good(self) -> bool:
        """Whether it is likely what was said, in the language in which it is written."""
        return not (self.is_loop or self.is_invented or self.avg_logprob < MIN_AVG_LOGPROB)

    def segments(self) -> list[Segment]:
        """The segments with a text, without the silence at their ends.

        Those that lie in silence are left out, for the model has invented them.
        """
        parts = [(self.window.part(start_s, end_s), text) for start_s, end_s, text in self._spans()]
        heard = [(part.without_silence(), text) for part, text in parts if not part.is_silent()]
        return [
            Segment(
                round(part.start_s, 3),
                round(part.start_s + part.duration_s, 3),
                text,
                self.avg_logprob,
                self.no_speech_prob,
            )
            for part, text in heard
        ]

    def rest_s(self) -> float | None:
        """Where the text stops before the end of the window, in seconds from its start; `None` if it does not.

        The model began another segment there and did not write it, or was cut off within it.
        """
        pieces = _MARK.split(self.text)
        times = [float(time) for time in pieces[1::2]]
        if len(times) < 2 or (self.is_whole and (pieces[-1].strip() or pieces[-3].strip())):
            return None
        return times[-1] if self.window.duration_s - times[-1] >= MIN_REST_S and times[-1] > 0 else None

    def _spans(self) -> list[tuple[float, float, str]]:
        pieces, duration_s = _MARK.split(self.text), self.window.duration_s
        times = [0.0, *map(float, pieces[1::2])]
        texts = [" ".join(text.split()) for text in pieces[::2]]
        ends = [*times[1:], duration_s]
        if not self.is_whole and self.rest_s() is not None:
            texts[-1] = ""
        return [
            (start_s, max(start_s, min(end_s, duration_s)), text)
            for start_s, end_s, text in zip(times, ends, texts, strict=True)
            if any(map(str.isalnum, text)) and start_s < duration_s
        ]


def compression_ratio(text: str) -> float:
    """How many times a text is longer than it is compressed."""
    raw = text.encode()
    return len(raw) / max(1, len(zlib.compress(raw)))


def joined(segments: Sequence[Segment], language: str | None) -> str:
    """The whole text; `language` is that of the text, by its code."""
    return ("" if language in WITHOUT_SPACES else " ").join(segment.text for segment in segments)
