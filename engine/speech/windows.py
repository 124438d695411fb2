"""Cuts speech into the windows that a model hears at once, at places where nobody speaks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from engine.parts import AUDIO_RATE, BYTES_PER_SAMPLE

WINDOW_S = 30.0
"""What Whisper hears at once."""
SEARCH_S = 8.0
"""How far before the end of a window a pause is looked for. vLLM's server looks 1 s far, and cuts words."""
FRAME = 320
"""Samples of 20 ms, over which the loudness is measured; a quiet place has `QUIET_FRAMES` of them."""
QUIET_FRAMES = 10
PAUSE_SHARE = 1e-3
"""In a pause, the power is below this share of the mean: 30 dB less."""
SILENT_PEAK = 10 ** (-60 / 20)
"""Sound that stays below -60 dBFS is silence: the noise of a muted microphone is."""


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the speech: where it begins, and its samples (see `engine.interface.SpeechWindow`)."""

    start_s: float
    samples: memoryview

    @property
    def duration_s(self) -> float:
        """Its length in seconds."""
        return self.samples.nbytes / BYTES_PER_SAMPLE / AUDIO_RATE

    def part(self, start_s: float, end_s: float | None = None) -> Window:
        """A part of it, in seconds from its own start."""
        first = min(self._place(start_s), self.samples.nbytes)
        last = self.samples.nbytes if end_s is None else max(first, self._place(end_s))
        return Window(self.start_s + first / BYTES_PER_SAMPLE / AUDIO_RATE, self.samples[first:last])

    def is_silent(self) -> bool:
        """Whether there is nothing to hear in it."""
        samples = _array(self.samples)
        return not len(samples) or float(samples.max() - samples.min()) / 2 < SILENT_PEAK

    def without_silence(self) -> Window:
        """The part from the first to the last sound; the window itself where it is silent."""
        import numpy as np

        samples = _array(self.samples)
        sounds = np.flatnonzero(np.abs(samples - np.median(samples)) >= SILENT_PEAK) if len(samples) else samples
        if not len(sounds):
            return self
        return self.part(sounds[0] / AUDIO_RATE, (sounds[-1] + 1) / AUDIO_RATE)

    @staticmethod
    def _place(seconds: float) -> int:
        return max(0, round(seconds * AUDIO_RATE)) * BYTES_PER_SAMPLE


def windows(samples: bytes) -> Iterator[Window]:
    """Windows of at most `WINDOW_S`, which together are all of the speech, each once.

    A window ends in the longest pause of its last `SEARCH_S`, which is most likely between two sentences: a sentence
    that is cut is heard worse. Without a pause it ends at the quietest 0.2 s.
    """
    whole, start = memoryview(samples), 0
    longest = int(WINDOW_S * AUDIO_RATE) * BYTES_PER_SAMPLE
    while len(whole) - start > longest:
        end = start + longest
        tail = end - int(SEARCH_S * AUDIO_RATE) * BYTES_PER_SAMPLE
        cut = tail + _quiet_place(whole[tail:end]) * BYTES_PER_SAMPLE
        yield Window(start / BYTES_PER_SAMPLE / AUDIO_RATE, whole[start:cut])
        start = cut
    if start < len(whole):
        yield Window(start / BYTES_PER_SAMPLE / AUDIO_RATE, whole[start:])


def _quiet_place(samples: memoryview) -> int:
    """The number of the sample in the middle of the longest pause, or of the quietest place."""
    import numpy as np

    found = _array(samples)
    frames = found[: len(found) // FRAME * FRAME].reshape(-1, FRAME).astype(np.float64)
    power = (frames**2).mean(axis=1)
    is_quiet = np.concatenate(([0], power <= power.mean() * PAUSE_SHARE, [0]))
    starts, ends = np.flatnonzero(np.diff(is_quiet) == 1), np.flatnonzero(np.diff(is_quiet) == -1)
    if len(starts) and (lengths := ends - starts).max() >= QUIET_FRAMES:
        longest = int(np.flatnonzero(lengths == lengths.max())[-1])
        return int(starts[longest] + ends[longest]) // 2 * FRAME
    power = np.convolve(power, np.full(QUIET_FRAMES, 1 / QUIET_FRAMES), mode="valid")
    quietest = np.flatnonzero(power <= power.min() * 1.01 + 1e-9)[-1]
    return (int(quietest) + QUIET_FRAMES // 2) * FRAME


def _array(samples: memoryview) -> Any:
    import numpy as np

    return np.frombuffer(samples, "<f4")
