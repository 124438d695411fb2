"""Segments come out of a text with times; loops and inventions are known."""

from __future__ import annotations

import pytest

from engine.speech.segments import Written, joined
from engine.speech.windows import Window
from tests.unit.engine.test_speech_windows import noise


def written(
    text: str, *, is_whole: bool = True, seconds: float = 10.0, avg_logprob: float = -0.3, no_speech_prob: float = 0.1
) -> Written:
    """What a model wrote of loud noise that begins at second 100."""
    window = Window(100.0, memoryview(noise(seconds).tobytes()))
    return Written(window, text, is_whole, avg_logprob, no_speech_prob)


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("<|0.00|> One.<|2.00|><|2.50|> Two\n three.<|9.98|>", [(100, 102, "One."), (102.5, 109.98, "Two three.")]),
        ("<|0.00|> One.<|2.00|><|2.00|> Two.", [(100, 102, "One."), (102, 110, "Two.")]),
        ("<|0.00|> One.<|2.00|><|2.00|>", [(100, 102, "One.")]),
        ("<|0.00|> One.", [(100, 110, "One.")]),
        (" Without times.", [(100, 110, "Without times.")]),
        ("<|0.00|><|2.00|>", []),
        ("", []),
        ("<|0.00|> ...<|2.00|>", []),
        ("<|0.00|> One.<|12.00|><|12.00|> Two.<|14.00|>", [(100, 110, "One.")]),
        ("<|1.00|> 你好。<|2.00|>", [(101, 102, "你好。")]),
    ],
)
def test_segments_have_a_text_and_the_times_of_the_whole(text: str, spans: list[tuple[float, float, str]]) -> None:
    assert [(one.start_s, one.end_s, one.text) for one in written(text).segments()] == spans


@pytest.mark.parametrize(
    ("text", "is_whole", "rest_s"),
    [
        ("<|0.00|> One.<|2.00|><|2.00|>", True, 2.0),
        ("<|0.00|> One.<|2.00|>", True, None),
        ("<|0.00|> One.<|2.00|><|2.00|> Two.", True, None),
        ("<|0.00|> One.<|9.80|><|9.80|>", True, None),
        ("<|0.00|><|0.00|>", True, None),
        ("<|0.00|> One.<|2.00|><|2.00|> Tw", False, 2.0),
        ("<|0.00|> One.<|2.00|>", False, 2.0),
        ("<|0.00|> On", False, None),
        (" Without times", True, None),
        ("", False, None),
    ],
)
def test_a_text_that_stops_early_says_where(text: str, is_whole: bool, rest_s: float | None) -> None:
    assert written(text, is_whole=is_whole).rest_s() == rest_s


def test_the_half_of_a_segment_is_left_out_where_its_rest_is_written_again() -> None:
    found = written("<|0.00|> One.<|2.00|><|2.00|> Tw", is_whole=False).segments()
    assert [one.text for one in found] == ["One."]


def test_segments_within_silence_are_left_out() -> None:
    samples = noise(10)
    samples[16_000 * 5 :] = 0
    window = Window(0.0, memoryview(samples.tobytes()))
    found = Written(window, "<|0.00|> One.<|4.00|><|6.00|> Thanks.<|9.00|>", True, -0.3, 0.1).segments()
    assert [one.text for one in found] == ["One."]


@pytest.mark.parametrize(
    ("text", "avg_logprob", "no_speech_prob", "is_invented"),
    [
        ("<|0.00|> You.<|2.00|>", -1.3, 0.93, True),
        ("<|0.00|> You.<|2.00|>", -0.5, 0.93, False),
        ("<|0.00|> You.<|2.00|>", -1.3, 0.4, False),
        ("<|0.00|> You.<|2.00|>", -2.3, 0.2, True),
        ("<|0.00|>" + " I put it on the pan." * 20, -0.4, 0.7, True),
        ("<|0.00|>" + " I put it on the pan." * 20, -0.4, 0.1, False),
    ],
)
def test_inventions_are_known(text: str, avg_logprob: float, no_speech_prob: float, is_invented: bool) -> None:
    found = written(text, avg_logprob=avg_logprob, no_speech_prob=no_speech_prob)
    assert found.is_invented == is_invented


def test_a_loop_is_known_by_its_words_not_by_its_times() -> None:
    assert written("<|0.00|>" + " lighthouse" * 60).is_loop
    words = ["the", "old", "keeper", "climbed", "narrow", "stairs", "and", "lit", "his", "lamp", "before", "dawn"]
    assert not written("".join(f"<|{n}.00|><|{n}.00|> {word}" for n, word in enumerate(words))).is_loop


def test_texts_are_joined_as_their_language_is_written() -> None:
    segments = written("<|0.00|> One.<|2.00|><|2.50|> Two.<|9.98|>").segments()
    assert joined(segments, "en") == "One. Two."
    assert joined(segments, "ja") == "One.Two."
    assert joined([], None) == ""
