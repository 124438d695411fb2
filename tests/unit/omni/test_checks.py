"""The figures of checked images: the probability, the verdict, and the choice."""

from __future__ import annotations

import pytest

from omni.images.checks import MISSES, SHOWS, Judgement, PartCheck, best, check_of, miss_note


def judged(whole: float, *parts: float) -> Judgement:
    return Judgement(whole, [PartCheck(f"part {number}", each) for number, each in enumerate(parts)])


def test_the_weakest_answer_is_the_probability() -> None:
    assert judged(0.9).probability == 0.9
    assert judged(0.9, 0.2, 0.8).probability == 0.2
    assert judged(0.1, 0.9).probability == 0.1


@pytest.mark.parametrize(("probability", "verdict"), [(0.5, SHOWS), (0.499999, MISSES), (1.0, SHOWS), (0.0, MISSES)])
def test_the_verdict_follows_from_the_threshold(probability: float, verdict: str) -> None:
    check = check_of(judged(0.9, probability), "model")
    assert (check.verdict, check.threshold, check.model) == (verdict, 0.5, "model")


def test_the_best_has_the_highest_probability_and_then_the_highest_mean() -> None:
    assert best([judged(0.4), judged(0.9, 0.8), judged(0.7)]) == 1
    assert best([judged(0.5, 0.5), judged(0.9, 0.5)]) == 1
    assert best([judged(0.5), judged(0.5)]) == 0
    assert best([None, judged(0.0), None]) == 1
    assert best([None, None]) == 0


def test_the_note_names_what_is_missing() -> None:
    assert miss_note(judged(0.9, 0.6), "prompt") is None
    parts = "The image misses the prompt. Least likely to be seen in it, with the probability: 'part 1' (0.20)."
    assert miss_note(judged(0.3, 0.9, 0.2), "prompt") == parts
    assert "'prompt' (0.30)" in (miss_note(judged(0.3, 0.9, 0.8), "prompt") or "")
    assert len(miss_note(judged(0.3), "x" * 20_000) or "") < 250
