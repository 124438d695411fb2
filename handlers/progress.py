"""New text of a generation as progress notifications, at a pace that clients can follow."""

from __future__ import annotations

import time
from collections.abc import Callable
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
    """Counts the tokens of a batch; its texts would only mix."""

    def __init__(self, sink: Progress, max_tokens: int, n_conversations: int) -> None:
        self._sink = sink
        self._total = max_tokens * n_conversations
        self._n_tokens = [0] * n_conversations
        self._sent_s = 0.0

    def on_text(self, index: int, text: str, n_tokens: int) -> None:
        """Takes one conversation's step; see `engine.interface.OnText`."""
        self._n_tokens[index] = n_tokens
        if time.monotonic() - self._sent_s >= MIN_INTERVAL_S:
            self._sink.progress(sum(self._n_tokens), self._total)
            self._sent_s = time.monotonic()


class ImageProgress:
    """Counts pictures that are done, in one phase or several.

    Arguments: where to tell it; `total`, how often a picture will be counted in all.
    """

    def __init__(self, sink: Progress, total: int) -> None:
        self._sink = sink
        self._total = total
        self._n_done = 0
        self._sent_s = 0.0

    def skip(self, n_images: int) -> None:
        """Counts pictures that need no further work."""
        self._n_done += n_images

    def counter(self, verb: str, n_images: int) -> Callable[[int], None]:
        """Counts the first `n_images` conversations of a batch as they finish; see `engine.interface.OnFinished`."""
        n_finished = 0

        def count(index: int) -> None:
            nonlocal n_finished
            if index >= n_images:
                return
            n_finished += 1
            self._n_done += 1
            if n_finished == n_images or time.monotonic() - self._sent_s >= MIN_INTERVAL_S:
                self._sink.progress(self._n_done, self._total, f"{n_finished} of {n_images} images {verb}")
                self._sent_s = time.monotonic()

        return count
