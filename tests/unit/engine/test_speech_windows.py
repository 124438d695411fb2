"""Speech is cut at quiet places into windows, which together are all of it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from engine.parts import AUDIO_RATE
from engine.speech.windows import WINDOW_S, Window, windows

Samples = npt.NDArray[np.float32]


def noise(seconds: float, loudness: float = 0.3) -> Samples:
    """Loud noise."""
    return np.random.default_rng(0).uniform(-loudness, loudness, round(seconds * AUDIO_RATE)).astype("<f4")


def quiet_at(samples: Samples, *starts_s: float, seconds: float = 0.4) -> Samples:
    """The samples with pauses."""
    for start_s in starts_s:
        samples[round(start_s * AUDIO_RATE) : round((start_s + seconds) * AUDIO_RATE)] *= 0.001
    return samples


@pytest.mark.parametrize("seconds", [0.0, 0.01, 1, 29.99, 30, 30.01, 31, 95.3, 200])
def test_windows_are_all_of_the_speech_once_and_in_order(seconds: float) -> None:
    samples = noise(seconds).tobytes()
    cut = list(windows(samples))
    assert b"".join(window.samples for window in cut) == samples
    assert all(0 < window.duration_s <= WINDOW_S for window in cut)
    ends = [0.0, *(window.start_s + window.duration_s for window in cut)]
    assert [window.start_s for window in cut] == pytest.approx(ends[:-1])


def test_a_window_ends_in_the_middle_of_the_last_pause_before_its_end() -> None:
    samples = quiet_at(noise(70), 3, 24, 26, 28.5, 50, 54)
    assert [window.start_s for window in windows(samples.tobytes())] == pytest.approx([0, 28.7, 54.2], abs=0.2)


def test_a_pause_is_longer_than_a_stop_within_a_word() -> None:
    samples = quiet_at(quiet_at(noise(40), 27), 29, seconds=0.06)
    assert [window.start_s for window in windows(samples.tobytes())] == pytest.approx([0, 27.2], abs=0.2)


def test_speech_without_a_pause_is_cut_all_the_same() -> None:
    assert len(list(windows(noise(300).tobytes()))) in range(10, 13)


def test_a_part_of_a_window_keeps_its_place_in_the_whole() -> None:
    window = Window(30.0, memoryview(noise(10).tobytes()))
    part = window.part(2.5, 4.0)
    assert (part.start_s, part.duration_s) == (32.5, 1.5)
    assert part.samples == window.samples[40_000 * 4 : 64_000 * 4]
    assert window.part(9, 99).duration_s == 1.0
    assert window.part(11).duration_s == 0.0


@pytest.mark.parametrize(
    ("samples", "is_silent"),
    [
        (np.zeros(1_600, "<f4"), True),
        (np.full(1_600, 0.2, "<f4"), True),
        (noise(1, 0.0005), True),
        (noise(1, 0.01), False),
        (np.zeros(0, "<f4"), True),
    ],
    ids=["zeros", "a constant", "a muted microphone", "a whisper", "nothing"],
)
def test_silence_is_known(samples: Samples, is_silent: bool) -> None:
    assert Window(0.0, memoryview(samples.tobytes())).is_silent() == is_silent


def test_silence_at_both_ends_is_left_out() -> None:
    samples = np.concatenate([np.zeros(AUDIO_RATE * 3), noise(2), np.full(AUDIO_RATE * 4, 1e-4)]).astype("<f4")
    part = Window(10.0, memoryview(samples.tobytes())).without_silence()
    assert [part.start_s, part.duration_s] == pytest.approx([13, 2], abs=0.01)


@pytest.mark.parametrize("seconds", [0.0, 2.0])
def test_a_silent_window_stays_as_it_is(seconds: float) -> None:
    window = Window(10.0, memoryview(noise(seconds, 1e-4).tobytes()))
    assert window.without_silence() == window
