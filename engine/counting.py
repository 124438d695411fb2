"""An engine whose tokens are counted, for the server's metrics."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from engine.interface import Completion, Control, Conversation, Engine, SpeechWindow


class CountedEngine:
    """Wraps an engine and counts its prompt and completion tokens.

    A generation that is cancelled or fails has no completion, so its tokens are not counted.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self.prompt_tokens = 0
        self.completion_tokens = 0

    def __getattr__(self, name: str) -> Any:
        """All other members are the engine's own."""
        return getattr(self._engine, name)

    def generate(self, conversations: Iterable[Conversation], control: Control) -> list[Completion]:
        """See `Engine`."""
        return self._counted(self._engine.generate(conversations, control))

    def transcribe(self, windows: Iterable[SpeechWindow], control: Control) -> list[Completion]:
        """See `Engine`."""
        return self._counted(self._engine.transcribe(windows, control))

    def _counted(self, completions: list[Completion]) -> list[Completion]:
        with self._lock:
            self.prompt_tokens += sum(completion.prompt_tokens for completion in completions)
            self.completion_tokens += sum(completion.completion_tokens for completion in completions)
        return completions
