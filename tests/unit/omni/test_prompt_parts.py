"""A prompt's parts: where it is cut, and where not."""

from __future__ import annotations

import pytest

from omni.images.prompt_parts import MAX_PARTS, parts_of


@pytest.mark.parametrize(
    ("prompt", "parts"),
    [
        ("a red circle on a blue background", ["a red circle", "a blue background"]),
        (
            "Please draw a red circle against a plain, blue background.",
            ["a red circle against a plain", "blue background"],
        ),
        ("blue background, red circle", ["blue background", "red circle"]),
        ("a picture of a cat in front of a dark green backdrop", ["a cat", "a dark green backdrop"]),
        ("A cat and two dogs. It rains!", ["A cat", "two dogs", "It rains"]),
        ("a woman with red hair and a green hat", ["a woman", "red hair", "a green hat"]),
        ("a house\na tree;a pond", ["a house", "a tree", "a pond"]),
        ("猫，狗。山", ["猫", "狗", "山"]),
        ("a cup, 3.5 inches high, f/1.8", ["a cup", "3.5 inches high", "f/1.8"]),
        ("a cat, A CAT, a dog", ["a cat", "a dog"]),
    ],
)
def test_a_prompt_is_cut_into_what_can_be_seen_by_itself(prompt: str, parts: list[str]) -> None:
    assert parts_of(prompt) == parts


@pytest.mark.parametrize(
    "prompt",
    [
        "a cat",
        "black and white photo of a cat",
        "a man without a hat",
        "a red circle on blue",
        "a cat on a table",
        "a cat, a cat",
        "...",
        "",
    ],
)
def test_a_prompt_of_one_part_has_none(prompt: str) -> None:
    assert parts_of(prompt) == []


def test_no_more_parts_than_the_maximum() -> None:
    assert parts_of(", ".join(f"thing {number}" for number in range(50))) == [f"thing {n}" for n in range(MAX_PARTS)]


def test_the_longest_prompts_are_cut_at_once() -> None:
    """No expression backtracks for long: a text that repeats what begins a cut."""
    for text in ("on a ", "and a ", "with ", " ", "a-", "in front of the "):
        parts_of((text * 20_000)[:20_000])
