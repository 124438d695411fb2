"""An engine without a model for unit tests: it replies from a queue, records its requests, and can be paused."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from engine.errors import EngineError, GenerationCancelled, InvalidGeneration, OffloadUnsupported
from engine.interface import (
    Completion,
    Control,
    Conversation,
    EngineState,
    EngineStatus,
    FinishReason,
    Message,
    OnPhase,
    SpeechWindow,
    TextPart,
)
from engine.prompts.conversation_checks import ConversationChecks
from engine.schemas.trial import problem_of
from settings import EngineSettings

POLL_S = 0.002


class FakeEngine:
    """Implements `engine.interface.Engine`.

    Arguments:
        settings: used by `check`.
        phases: reported by every load.
        load_gate: an event that a load waits for after its last phase.
        load_error: raised by every load while it is set.
        model_name: of the status.
        ready: whether it begins loaded.
        can_offload: whether it pretends to run on a GPU.

    Attributes:
        sees, hears, watches: whether the loaded model takes images, audio and videos; `None` for not known.
        transcribes: whether it says that it transcribes speech.
        batches, windows: the conversations of each `generate`, and the windows of each `transcribe`.
        loading, generating: set once a load or a generation has begun.
        n_loads, released, closed: what happened so far.
    """

    def __init__(
        self,
        settings: EngineSettings | None = None,
        *,
        phases: Sequence[str] = ("importing vLLM", "loading weights"),
        load_gate: threading.Event | None = None,
        load_error: EngineError | None = None,
        model_name: str = "fake-model",
        ready: bool = False,
        can_offload: bool = False,
    ) -> None:
        self._checks = ConversationChecks(settings or EngineSettings(), self._vet)
        self.phases = phases
        self.load_gate = load_gate
        self.load_error = load_error
        self.model_name = model_name
        self.batches: list[list[Conversation]] = []
        self.windows: list[list[SpeechWindow]] = []
        self.loading = threading.Event()
        self.generating = threading.Event()
        self.n_loads = 0
        self.released = False
        self.closed = False
        self.can_offload = can_offload
        self.sees: bool | None = True
        self.transcribes: bool | None = None
        self.hears: bool | None = None
        self.watches: bool | None = None
        self.last_used_s: float | None = None
        self._state = EngineState.READY if ready else EngineState.UNLOADED
        self._replies: deque[dict[str, Any]] = deque()

    def enqueue(self, text: str = "reply", **options: Any) -> None:
        """Adds the reply to one conversation.

        Arguments:
            text: the reply, as one token.
            options: of `_reply`, and other fields of `Completion`.
        """
        self._replies.append({"tokens": (text,), **options})

    @property
    def conversations(self) -> list[Conversation]:
        """All conversations so far, in order."""
        return [conversation for batch in self.batches for conversation in batch]

    def status(self) -> EngineStatus:
        """The status; most fields are known once the model is loaded."""
        status = EngineStatus(self._state, self.model_name)
        if self._state not in (EngineState.READY, EngineState.OFFLOADED):
            return status
        return replace(
            status,
            dtype="float32",
            max_model_len=2048,
            supports_images=self.sees,
            supports_audio=self.hears,
            supports_video=self.watches,
            transcribes=self.transcribes,
            device="cuda" if self.can_offload else "cpu",
            load_s=0.5,
            can_offload=self.can_offload,
            last_used_s=self.last_used_s,
        )

    def load(self, on_phase: OnPhase | None = None) -> float:
        """Reports the phases, waits for the gate, then is ready."""
        if self._state is EngineState.READY:
            return 0.0
        if self._state is EngineState.OFFLOADED:
            self._state = EngineState.READY
            return 0.1
        self._state = EngineState.LOADING
        for phase in self.phases:
            if on_phase is not None:
                on_phase(phase)
        self.loading.set()
        if self.load_gate is not None and not self.load_gate.wait(60):
            raise TimeoutError("a test forgot to open the load gate")
        if self.load_error is not None:
            self._state = EngineState.FAILED
            raise self.load_error
        self.n_loads += 1
        self._state = EngineState.READY
        self.last_used_s = time.monotonic()
        return 0.5

    def _vet(self, schema: dict[str, Any], control: Control) -> None:
        """Tries the schema in this process."""
        if find_spec("llguidance") is not None and (problem := problem_of(json.dumps(schema))) is not None:
            raise InvalidGeneration(f"this schema cannot be used: {problem}.")

    def check(self, conversation: Conversation, control: Control) -> Conversation:
        """Checks the conversation like the real engines."""
        return self._checks.check(conversation, control)

    def generate(self, conversations: Iterable[Conversation], control: Control) -> list[Completion]:
        """Gives each conversation the next queued reply, or "reply"."""
        conversations = list(conversations)
        if not conversations:
            return []
        self.load(control.on_phase)
        self.batches.append(conversations)
        self.generating.set()
        completions = []
        for index, conversation in enumerate(conversations):
            options = self._replies.popleft() if self._replies else {"tokens": ("reply",)}
            try:
                completions.append(_reply(index, conversation.messages, control, **options))
            except EngineError as error:
                if len(conversations) == 1 or isinstance(error, GenerationCancelled):
                    raise
                completions.append(Completion(error=str(error)))
            if control.on_finished is not None and completions[-1].finish_reason is not FinishReason.TIMEOUT:
                control.on_finished(index)
        self.last_used_s = time.monotonic()
        return completions

    def transcribe(self, windows: Iterable[SpeechWindow], control: Control) -> list[Completion]:
        """Gives each window the next queued reply, or one without a text."""
        windows = list(windows)
        if not windows:
            return []
        self.load(control.on_phase)
        self.windows.append(windows)
        self.generating.set()
        completions = []
        for index in range(len(windows)):
            options = self._replies.popleft() if self._replies else {"tokens": ()}
            completions.append(_reply(index, (), control, **options))
            if control.on_finished is not None:
                control.on_finished(index)
        self.last_used_s = time.monotonic()
        return completions

    def offload(self) -> None:
        """Offloads a ready model, if this engine can."""
        if self._state is not EngineState.READY:
            return
        if not self.can_offload:
            raise OffloadUnsupported("Offloading is not supported on this backend (cpu). Use release_gpu.")
        self._state = EngineState.OFFLOADED

    def process_ids(self) -> list[int]:
        """Only this process."""
        return [os.getpid()]

    def release(self) -> None:
        """Unloads the model."""
        self.released = True
        self._state = EngineState.UNLOADED

    def close(self) -> None:
        """Records the end."""
        self.closed = True


def _reply(
    index: int,
    messages: Sequence[Message],
    control: Control,
    *,
    tokens: Sequence[str],
    delay_s: float = 0.0,
    raises: EngineError | None = None,
    hold: threading.Event | None = None,
    probabilities: tuple[float, ...] | None = None,
    **fields: Any,
) -> Completion:
    """The next reply.

    Arguments:
        tokens: of the reply.
        delay_s: seconds before the first token.
        raises: an error instead of a reply.
        hold: an event that the last token waits for.
        probabilities: of the words of a choice.
        fields: other fields of the completion.
    """
    begin_s = time.monotonic()
    text: list[str] = []
    for number, token in enumerate(tokens, start=1):
        gate = hold if number == len(tokens) else None
        while time.monotonic() - begin_s < delay_s or (gate is not None and not gate.is_set()):
            control.stop_if_cancelled()
            if control.is_late:
                break
            time.sleep(POLL_S)
        control.stop_if_cancelled()
        if control.is_late:
            fields["finish_reason"], probabilities = FinishReason.TIMEOUT, None
            break
        if raises is not None:
            raise raises
        text.append(token)
        if control.on_text is not None:
            control.on_text(index, token, number)
    if fields.get("tool_calls"):
        fields = {"finish_reason": FinishReason.TOOL_CALLS, **fields}
    more: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    kinds = [part.kind for message in messages for part in message.media]
    return Completion(
        text="".join(text),
        prompt_tokens=sum(len(message.text.split()) for message in messages),
        completion_tokens=len(text),
        cached_tokens=0,
        image_tokens=16 * kinds.count("image"),
        audio_tokens=25 * kinds.count("audio"),
        video_tokens=64 * kinds.count("video"),
        first_token_ms=1.0,
        choice_probabilities=probabilities,
        **more,
    )


def texts_of(conversation: Conversation) -> list[tuple[str, str]]:
    """A conversation as pairs of role and text, with `<image>` for each image."""
    return [
        (message.role, " ".join(part.text if isinstance(part, TextPart) else "<image>" for part in message.content))
        for message in conversation.messages
    ]
