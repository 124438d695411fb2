"""An engine whose tokens are counted, for whoever watches the server."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

from engine.interface import Completion, Control, Conversation, Engine, EngineStatus, OnPhase


class CountedEngine:
    """Another engine, and how many tokens its prompts and answers had so far.

    A generation that is cancelled or fails has no completion: what it computed is not counted.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self.prompt_tokens = 0
        self.completion_tokens = 0

    def status(self) -> EngineStatus:
        """See `Engine`."""
        return self._engine.status()

    def load(self, on_phase: OnPhase | None = None) -> float:
        """See `Engine`."""
        return self._engine.load(on_phase)

    def vet(self, schema: dict[str, Any], control: Control) -> None:
        """See `Engine`."""
        self._engine.vet(schema, control)

    def generate(self, conversations: Iterable[Conversation], control: Control) -> list[Completion]:
        """See `Engine`."""
        completions = self._engine.generate(conversations, control)
        with self._lock:
            self.prompt_tokens += sum(completion.prompt_tokens for completion in completions)
            self.completion_tokens += sum(completion.completion_tokens for completion in completions)
        return completions

    def offload(self) -> None:
        """See `Engine`."""
        self._engine.offload()

    def release(self) -> None:
        """See `Engine`."""
        self._engine.release()

    def process_ids(self) -> list[int]:
        """See `Engine`."""
        return self._engine.process_ids()

    def close(self) -> None:
        """See `Engine`."""
        self._engine.close()
