from __future__ import annotations

import pytest

from handlers.progress import ImageProgress, TextProgress, TokenProgress


class Sink:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[float, float | None, str | None]] = []

    def progress(self, progress: float, total: float | None, message: str | None = None) -> None:
        """Keeps one report."""
        self.told.append((progress, total, message))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the module sees, to be set by the test."""
    now = [100.0]
    monkeypatch.setattr("handlers.progress.time.monotonic", lambda: now[0])
    return now


def test_texts_are_gathered_between_reports_and_add_up(clock: list[float]) -> None:
    sink = Sink()
    told = TextProgress(sink, max_tokens=9)
    for number, text in enumerate(("a", "b", "c", "d"), start=1):
        told.on_text(0, text, number)
        clock[0] += 0.02
    told.flush()
    assert sink.told == [(1, 9, "a"), (4, 9, "bcd")]


def test_tokens_without_text_move_the_figure_alone(clock: list[float]) -> None:
    sink = Sink()
    told = TextProgress(sink, max_tokens=9)
    for number, text in enumerate(("", "", "a", ""), start=1):
        told.on_text(0, text, number)
        clock[0] += 0.06
    told.on_text(0, "b", 4)
    told.flush()
    assert sink.told == [(1, 9, None), (2, 9, None), (3, 9, "a"), (4, 9, None), (4.001, 9, "b")]


def test_flush_without_news_says_nothing(clock: list[float]) -> None:
    sink = Sink()
    told = TextProgress(sink, max_tokens=9)
    told.flush()
    told.on_text(0, "a", 1)
    told.flush()
    assert len(sink.told) == 1


def test_tokens_of_a_batch_are_summed(clock: list[float]) -> None:
    sink = Sink()
    told = TokenProgress(sink, max_tokens=10, conversations=range(3))
    for index, n_tokens in ((0, 1), (2, 1), (0, 2), (1, 4)):
        told.on_text(index, "x", n_tokens)
        clock[0] += 0.06
    assert sink.told == [(1, 30, None), (2, 30, None), (3, 30, None), (7, 30, None)]


def test_images_are_counted_over_phases_and_the_end_of_each_is_told(clock: list[float]) -> None:
    sink = Sink()
    told = ImageProgress(sink, range(3), n_phases=2)
    check = told.counter("checked", range(3))
    for index in (2, 0, 1):
        check(index)
    told.skip(1)
    clock[0] += 1
    analyse = told.counter("analysed", range(2))
    for index in (1, 2, 0):  # the third conversation is no image's
        analyse(index)
    assert sink.told == [
        (1, 6, "1 of 3 images checked"),
        (3, 6, "3 of 3 images checked"),
        (5, 6, "1 of 2 images analysed"),
        (6, 6, "2 of 2 images analysed"),
    ]
