"""Whisper's special tokens, and what OpenAI's decoder allows at each place of a text with times."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import EngineUnavailable
from engine.speech.languages import LANGUAGES

RULES_ARGUMENT = "whisper_rules"
"""The name in a request's `extra_args` under which its rules are."""
STEP_S = 0.02
"""The distance between two timestamp tokens."""
MAX_INITIAL_STEPS = 50
"""OpenAI's limit of a text's first time, one second, where the model's files have none."""


@dataclass(frozen=True, slots=True)
class WhisperTokens:
    """The ids of Whisper's special tokens in one model.

    Arguments:
        end: of the text; all ids below are text.
        start: of a transcript.
        previous: before text that was said before.
        no_speech: its probability says that nobody speaks.
        no_timestamps: for a text without times; the ids above are times.
        transcribe, translate: the two tasks.
        languages: of each language by its code; empty for a model of English only, whose prompts have no task.
        suppressed: text that is never written, such as brackets around sounds.
        suppressed_first: text with which none begins.
        max_initial_steps: the latest first time, in steps of `STEP_S`.
    """

    end: int
    start: int
    previous: int
    no_speech: int
    no_timestamps: int
    transcribe: int
    translate: int
    languages: Mapping[str, int]
    suppressed: tuple[int, ...]
    suppressed_first: tuple[int, ...]
    max_initial_steps: int = MAX_INITIAL_STEPS

    @property
    def first_time(self) -> int:
        """The token `<|0.00|>`."""
        return self.no_timestamps + 1

    def forced(self, language: str, *, translates: bool, timestamps: bool) -> list[int]:
        """The tokens that follow the start; `language` is one of `languages`, if there are any."""
        task = [self.languages[language], self.translate if translates else self.transcribe] if self.languages else []
        return task if timestamps else [*task, self.no_timestamps]


def find_tokens(id_of: Callable[[str], int | None], config: Callable[[str], Any]) -> WhisperTokens:
    """The tokens of one model.

    Arguments:
        id_of: the id of a token by its text, `None` where the model has no such token.
        config: a value of the model's generation settings by its name, `None` where there is none.
    Raises: `EngineUnavailable` where a token is missing.
    """

    def needed(*texts: str) -> int:
        found = next((number for number in map(id_of, texts) if number is not None), None)
        if found is None:
            raise EngineUnavailable(
                f"Failed to initialize vLLM: the tokenizer of the speech model lacks {texts[0]}, so it is no Whisper."
            )
        return found

    end, no_timestamps = needed("<|endoftext|>"), needed("<|notimestamps|>")
    if id_of("<|0.00|>") not in (no_timestamps + 1, None):
        raise EngineUnavailable("Failed to initialize vLLM: the speech model's timestamp tokens are in no known order.")
    known = ((code, id_of(f"<|{code}|>")) for code in LANGUAGES) if config("is_multilingual") is not False else ()
    return WhisperTokens(
        end=end,
        start=needed("<|startoftranscript|>"),
        previous=needed("<|startofprev|>"),
        no_speech=needed("<|nospeech|>", "<|nocaptions|>"),
        no_timestamps=no_timestamps,
        transcribe=needed("<|transcribe|>"),
        translate=needed("<|translate|>"),
        languages={code: number for code, number in known if number is not None},
        suppressed=tuple(config("suppress_tokens") or ()),
        suppressed_first=tuple(config("begin_suppress_tokens") or (end,)),
        max_initial_steps=config("max_initial_timestamp_index") or MAX_INITIAL_STEPS,
    )


def rules(tokens: WhisperTokens, forced: Sequence[int], *, timestamps: bool, duration_s: float) -> dict[str, Any]:
    """What `banned` needs to know of one window, as values that vLLM sends to its engine core."""
    return {
        "forced": list(forced),
        "timestamps": timestamps,
        "end": tokens.end,
        "first_time": tokens.first_time,
        "last_time": tokens.first_time + round(duration_s / STEP_S),
        "last_initial": tokens.first_time + tokens.max_initial_steps,
        "suppressed": list(tokens.suppressed),
        "suppressed_first": list(tokens.suppressed_first),
    }


def banned(written: Sequence[int], rules: Mapping[str, Any]) -> list[tuple[int, int | None]]:
    """The ranges of tokens that may not follow.

    These are the rules of OpenAI's decoder, without which the model leaves out times or whole parts of the speech: a
    text begins with a time; times come in pairs of an end and the next start, and never go back. No time is behind the
    end of the window, which the model sees filled up with silence.

    Arguments:
        written: the tokens so far, without the forced ones.
        rules: see `rules`.
    """
    first, end = rules["first_time"], rules["end"]
    ranges: list[tuple[int, int | None]] = [(end + 1, first)]
    if not rules["timestamps"]:
        return [(end + 1, None)]
    ranges.append((rules["last_time"] + 1, None))
    if not written:
        return [(0, first), (rules["last_initial"] + 1, None), *ranges]
    is_time = written[-1] >= first
    is_start = is_time and (len(written) < 2 or written[-2] >= first)
    if is_start:
        ranges.append((first, None))
    elif is_time:
        ranges.append((0, end))
    last = next((token for token in reversed(written) if token >= first), None)
    if last is not None:
        ranges.append((first, last if is_time and not is_start else last + 1))
    return ranges


def marked_text(written: Sequence[int], tokens: WhisperTokens, text_of: Callable[[Sequence[int]], str]) -> str:
    """A text with its times, as `<|0.00|> Good morning.<|1.20|>`; special tokens are left out.

    Arguments:
        written: the tokens, without the forced ones.
        tokens: the model's special tokens.
        text_of: the text of tokens that are no special ones.
    """
    pieces: list[str] = []
    run: list[int] = []
    for token in [*written, tokens.end]:
        if token < tokens.end:
            run.append(token)
            continue
        if run:
            pieces.append(text_of(run))
            run = []
        if token >= tokens.first_time:
            pieces.append(f"<|{(token - tokens.first_time) * STEP_S:.2f}|>")
    return "".join(pieces)
