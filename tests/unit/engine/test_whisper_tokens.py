"""Whisper's special tokens, and what may follow what."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import EngineUnavailable
from engine.speech.whisper_tokens import banned, find_tokens, marked_text, rules

END, START, EN, DE, TRANSLATE, TRANSCRIBE, PREVIOUS, NO_SPEECH, NO_TIMES, FIRST = range(100, 110)
VOCABULARY = {
    "<|endoftext|>": END,
    "<|startoftranscript|>": START,
    "<|en|>": EN,
    "<|de|>": DE,
    "<|translate|>": TRANSLATE,
    "<|transcribe|>": TRANSCRIBE,
    "<|startofprev|>": PREVIOUS,
    "<|nospeech|>": NO_SPEECH,
    "<|notimestamps|>": NO_TIMES,
    "<|0.00|>": FIRST,
}
CONFIG: dict[str, Any] = {"suppress_tokens": [7, 8], "begin_suppress_tokens": [9, END]}
TOKENS = find_tokens(VOCABULARY.get, CONFIG.get)
ALL = range(FIRST + 1_501)


def allowed(*written: int, timestamps: bool = True, duration_s: float = 30.0) -> set[int]:
    """The tokens that may follow."""
    made = rules(TOKENS, [], timestamps=timestamps, duration_s=duration_s)
    left = set(ALL)
    for start, stop in banned(written, made):
        left -= set(ALL[start:stop])
    return left


TEXT = set(range(END))
TIMES = set(range(FIRST, FIRST + 1_501))


def test_a_text_begins_with_a_time_of_its_first_second() -> None:
    assert allowed() == set(range(FIRST, FIRST + 51))


def test_a_start_is_followed_by_text_or_the_end() -> None:
    assert allowed(FIRST) == TEXT | {END}
    assert allowed(FIRST, 1, FIRST + 50, FIRST + 50) == TEXT | {END}


def test_text_is_followed_by_text_a_later_time_or_the_end() -> None:
    assert allowed(FIRST + 10, 1) == TEXT | {END} | set(range(FIRST + 11, FIRST + 1_501))


def test_an_end_is_followed_by_the_next_start_or_the_end_of_all() -> None:
    assert allowed(FIRST, 1, FIRST + 50) == {END} | set(range(FIRST + 50, FIRST + 1_501))


def test_no_time_is_behind_the_end_of_the_window() -> None:
    assert allowed(FIRST, 1, duration_s=2.0) & TIMES == set(range(FIRST + 1, FIRST + 101))
    assert allowed(FIRST, 1, FIRST + 100, FIRST + 100, 2, duration_s=2.0) == TEXT | {END}


def test_a_text_without_times_has_none() -> None:
    assert allowed(timestamps=False) == allowed(1, timestamps=False) == TEXT | {END}


def test_forced_tokens_say_language_task_and_times() -> None:
    assert TOKENS.forced("de", translates=False, timestamps=True) == [DE, TRANSCRIBE]
    assert TOKENS.forced("en", translates=True, timestamps=False) == [EN, TRANSLATE, NO_TIMES]


def test_a_model_of_english_only_has_no_task() -> None:
    english = find_tokens(VOCABULARY.get, {"is_multilingual": False}.get)
    assert english.forced("en", translates=False, timestamps=True) == []
    assert english.forced("en", translates=False, timestamps=False) == [NO_TIMES]
    assert english.suppressed_first == (END,)


@pytest.mark.parametrize("missing", ["<|endoftext|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"])
def test_a_tokenizer_that_is_not_whispers_is_told(missing: str) -> None:
    known = {text: number for text, number in VOCABULARY.items() if text != missing}
    with pytest.raises(EngineUnavailable, match=r"lacks .*, so it is no Whisper\.$"):
        find_tokens(known.get, CONFIG.get)


def test_the_older_name_of_no_speech_is_known() -> None:
    known = {text: number for text, number in VOCABULARY.items() if text != "<|nospeech|>"}
    assert find_tokens({**known, "<|nocaptions|>": 3}.get, CONFIG.get).no_speech == 3


def test_tokens_of_times_in_another_place_are_told() -> None:
    with pytest.raises(EngineUnavailable, match="no known order"):
        find_tokens({**VOCABULARY, "<|0.00|>": 3}.get, CONFIG.get)


def test_a_text_is_marked_with_its_times() -> None:
    written = [FIRST, 1, 2, FIRST + 60, FIRST + 60, 3, FIRST + 1_500, END]
    text = marked_text(written, TOKENS, lambda ids: f" {'-'.join(map(str, ids))}")
    assert text == "<|0.00|> 1-2<|1.20|><|1.20|> 3<|30.00|>"
    assert marked_text([EN, 1, END], TOKENS, str) == "[1]"
    assert marked_text([], TOKENS, str) == ""
