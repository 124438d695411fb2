"""New text of a generation as progress notifications, at a pace that clients can follow."""

from __future__ import annotations

import time
from collections.abc import Callable, Sized
from typing import Protocol

MIN_INTERVAL_S = 0.05
HAIR = 0.001


class Progress(Protocol):
    """Where progress goes: a `Call`."""

    def progress(self, progress: float, total: float | None, message: str | None = None) -> None:
        """Tells how far the work is."""


class TextProgress:
    """Gathers new text and passes it on, at most once in `MIN_INTERVAL_S`; what is sent adds up to the whole text."""

    def __init__(self, sink: Progress, max_tokens: int) -> None:
        self._sink = sink
        self._max_tokens = max_tokens
        self._text = ""
        self._n_tokens = 0
        self._progress = 0.0
        self._sent_s = 0.0

    def on_text(self, index: int, text: str, n_tokens: int) -> None:
        """Takes one step's new text; see `engine.interface.OnText`."""
        self._text += text
        self._n_tokens = n_tokens
        if time.monotonic() - self._sent_s >= MIN_INTERVAL_S:
            self.flush()

    def flush(self) -> None:
        """Sends what is left; called once more at the end.

        Text that comes without a new token, as the last of it may, moves the figure by a hair: it has to grow. Tokens
        without new text, as those of reasoning and tool calls, move the figure alone.
        """
        if not self._text and self._n_tokens > self._progress:
            self._progress = self._n_tokens
            self._sink.progress(self._progress, self._max_tokens)
            self._sent_s = time.monotonic()
        if self._text:
            self._progress = max(self._n_tokens, self._progress + HAIR)
            self._sink.progress(self._progress, self._max_tokens, self._text)
            self._text = ""
            self._sent_s = time.monotonic()


class TokenProgress:
    """Counts the tokens of a batch; its texts would only mix.

    Arguments: where to tell it; the most tokens of one answer; the conversations, of which more may come until the
    first text does.
    """

    def __init__(self, sink: Progress, max_tokens: int, conversations: Sized) -> None:
        self._sink = sink
        self._max_tokens = max_tokens
        self._conversations = conversations
        self._n_tokens: dict[int, int] = {}
        self._sent_s = 0.0

    def on_text(self, index: int, text: str, n_tokens: int) -> None:
        """Takes one conversation's step; see `engine.interface.OnText`."""
        self._n_tokens[index] = n_tokens
        if time.monotonic() - self._sent_s >= MIN_INTERVAL_S:
            self._sink.progress(sum(self._n_tokens.values()), self._max_tokens * len(self._conversations))
            self._sent_s = time.monotonic()


class ImageProgress:
    """Counts pictures that are done, in one phase or several.

    Arguments: where to tell it; the pictures, of which more may come until the first is done; `n_phases`, how often
    each will be counted in all.
    """

    def __init__(self, sink: Progress, images: Sized, n_phases: int) -> None:
        self._sink = sink
        self._images = images
        self._n_phases = n_phases
        self._n_done = 0
        self._sent_s = 0.0

    def skip(self, n_images: int) -> None:
        """Counts pictures that need no further work."""
        self._n_done += n_images

    def counter(self, verb: str, images: Sized) -> Callable[[int], None]:
        """Counts the conversations of a batch about one of `images` each as they finish; they come first in it.

        See `engine.interface.OnFinished`.
        """
        n_finished = 0

        def count(index: int) -> None:
            nonlocal n_finished
            n_images = len(images)
            if index >= n_images:
                return
            n_finished += 1
            self._n_done += 1
            if n_finished == n_images or time.monotonic() - self._sent_s >= MIN_INTERVAL_S:
                total = self._n_phases * len(self._images)
                self._sink.progress(self._n_done, total, f"{n_finished} of {n_images} images {verb}")
                self._sent_s = time.monotonic()

        return count
