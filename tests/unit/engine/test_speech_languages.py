"""Languages are known by code, tag and name."""

from __future__ import annotations

import pytest

from engine.errors import InvalidGeneration
from engine.speech.languages import LANGUAGES, code_of


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("de", "de"),
        ("DE", "de"),
        (" German ", "de"),
        ("en-US", "en"),
        ("pt_BR", "pt"),
        ("Mandarin", "zh"),
        ("nb", "no"),
        ("Haitian Creole", "ht"),
        ("haw", "haw"),
        ("zh-Hant-TW", "zh"),
    ],
)
def test_a_language_is_known_by_any_of_its_names(given: str, code: str) -> None:
    assert code_of(given) == code


@pytest.mark.parametrize("given", ["", "klingon", "xx", "deutsch2", "e n", "-"])
def test_an_unknown_language_lists_the_known_ones(given: str) -> None:
    with pytest.raises(InvalidGeneration, match=r"Known: en \(English\), zh \(Chinese\), .*yue \(Cantonese\)\.$"):
        code_of(given)


def test_every_language_is_known_by_its_own_name() -> None:
    assert len(LANGUAGES) == 100
    assert {code_of(name) for name in LANGUAGES.values()} == set(LANGUAGES)
