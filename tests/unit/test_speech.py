"""The measure of transcripts."""

from __future__ import annotations

import pytest

from tests.speech import word_error_rate, words


@pytest.mark.parametrize(
    ("hypothesis", "rate"),
    [
        ("The old lighthouse stands.", 0.0),
        ("the OLD lighthouse, stands!", 0.0),
        ("The old lighthouse", 0.25),
        ("The very old lighthouse stands", 0.25),
        ("The cold lighthouse stands", 0.25),
        ("stands lighthouse old the", 1.0),
        ("", 1.0),
        ("one two three four five", 1.25),
    ],
)
def test_each_wrong_word_counts_once(hypothesis: str, rate: float) -> None:
    assert word_error_rate("The old lighthouse stands.", hypothesis) == rate


def test_words_have_no_punctuation() -> None:
    assert words("It’s late – «Äpfel»,\nniños… d'elle") == ["it's", "late", "äpfel", "niños", "d'elle"]
