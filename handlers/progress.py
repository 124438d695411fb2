"""The progress of a generation as notifications, at a rate that clients can process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sized
from typing import Protocol

MIN_INTERVAL_S = 0.05
MIN_STEP = 0.001
"""MCP requires that the progress value increases with every notification."""


class Progress(Protocol):
    """What sends progress notifications: a `Call`."""

    def progress(self, progress: float, total: float | None, message: str | None = None) -> None:
        """Sends one notification."""


class TextProgress:
    """Sends new text, at most once per `MIN_INTERVAL_S`; the messages add up to the whole text."""

    def __init__(self, sink: Progress, max_tokens: int) -> None:
        self._sink = sink
        self._max_tokens = max_tokens
        self._text = ""
        self._n_tokens = 0
        self._progress = 0.0
        self._sent_s = 0.0

    def on_text(self, index: int, text: str, n_tokens: int) -> None:
        """Adds the new text of one step; see `engine.interface.OnText`."""
        self._text += text
        self._n_tokens = n_tokens
        if time.monotonic() - self._sent_s >= MIN_INTERVAL_S:
            self.flush()

    def flush(self) -> None:
        """Sends the text not sent yet; called once more at the end.

        Text without a new token, such as the last piece, increases the value by `MIN_STEP`. Tokens without new text,
        such as those of reasoning and tool calls, increase the value alone.
        """
        if not self._text and self._n_tokens > self._progress:
            self._progress = self._n_tokens
            self._sink.progress(self._progress, self._max_tokens)
            self._sent_s = time.monotonic()
        if self._text:
            self._progress = max(self._n_tokens, self._progress + MIN_STEP)
            self._sink.progress(self._progress, self._max_tokens, self._text)
            self._text = ""
            self._sent_s = time.monotonic()


class TokenProgress:
    """Counts the tokens of a batch; the texts of several conversations would be mixed up.

    Arguments:
        sink: the call.
        max_tokens: maximum tokens of one reply.
        conversations: the conversations of the batch; the list may grow until the first text comes.
    """

    def __init__(self, sink: Progress, max_tokens: int, conversations: Sized) -> None:
        self._sink = sink
        self._max_tokens = max_tokens
        self._conversations = conversations
        self._n_tokens: dict[int, int] = {}
        self._sent_s = 0.0

    def on_text(self, index: int, text: str, n_tokens: int) -> None:
        """Counts the tokens of one conversation; see `engine.interface.OnText`."""
        self._n_tokens[index] = n_tokens
        if time.monotonic() - self._sent_s >= MIN_INTERVAL_S:
            self._sink.progress(sum(self._n_tokens.values()), self._max_tokens * len(self._conversations))
            self._sent_s = time.monotonic()


class ImageProgress:
    """Counts finished images, in one phase or several.

    Arguments:
        sink: the call.
        images: the images; the list may grow until the first image is finished.
        n_phases: how often each image is counted in total.
        noun: what the images are called.
        n_before: what the call has already reported of other work, in the same units.
    """

    def __init__(self, sink: Progress, images: Sized, n_phases: int, noun: str = "images", n_before: float = 0) -> None:
        self._sink = sink
        self._images = images
        self._n_phases = n_phases
        self._noun = noun
        self._n_before = n_before
        self._n_done = 0
        self._sent_s = 0.0

    def skip(self, n_images: int) -> None:
        """Counts images that are not part of the next phase."""
        self._n_done += n_images

    def counter(self, verb: str, images: Sized) -> Callable[[int], None]:
        """Returns an `engine.interface.OnFinished` that counts the first conversations of a batch, one per image."""
        n_finished = 0

        def count(index: int) -> None:
            nonlocal n_finished
            n_images = len(images)
            if index >= n_images:
                return
            n_finished += 1
            self._n_done += 1
            if n_finished == n_images or time.monotonic() - self._sent_s >= MIN_INTERVAL_S:
                total = self._n_before + self._n_phases * len(self._images)
                message = f"{n_finished} of {n_images} {self._noun} {verb}"
                self._sink.progress(self._n_before + self._n_done, total, message)
                self._sent_s = time.monotonic()

        return count
