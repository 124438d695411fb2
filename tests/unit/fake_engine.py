"""The engine's stand-in: answers from a queue, remembers what it was asked, and can be held in every phase."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
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
    OnPhase,
    TextPart,
    TokenLogprob,
    ToolCall,
)
from engine.schema_trial import problem_of

LOOK_S = 0.002
"""How often a held generation asks whether it was cancelled; `Control` offers no event to wait for."""


@dataclass(frozen=True)
class Reply:
    """One queued answer; see `FakeEngine.enqueue`."""

    tokens: tuple[str, ...]
    delay_s: float
    raises: EngineError | None
    finish_reason: FinishReason
    hold: threading.Event | None
    logprobs: tuple[TokenLogprob, ...] | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str | None = None
    probabilities: tuple[float, ...] | None = None


_DEFAULT_REPLY = Reply(("reply",), 0.0, None, FinishReason.STOP, None)


class FakeEngine:
    """Implements `engine.interface.Engine` without a model.

    Arguments: `phases`, reported by every load; `load_gate`, an event that a load waits for after its last phase;
    `load_error`, raised by every load while it is set;
    `can_offload`, whether it pretends to run on a GPU.

    Attributes for tests: `batches` has the conversations of each `generate`; `loading` and `generating` are set when
    a load or a generation has begun; `n_loads`, `released` and `closed` count and tell.
    """

    def __init__(
        self,
        *,
        phases: Sequence[str] = ("importing vLLM", "loading weights"),
        load_gate: threading.Event | None = None,
        load_error: EngineError | None = None,
        model_name: str = "fake-model",
        ready: bool = False,
        can_offload: bool = False,
    ) -> None:
        self.phases = phases
        self.load_gate = load_gate
        self.load_error = load_error
        self.model_name = model_name
        self.batches: list[list[Conversation]] = []
        self.loading = threading.Event()
        self.generating = threading.Event()
        self.n_loads = 0
        self.released = False
        self.closed = False
        self.can_offload = can_offload
        self.last_used_s: float | None = None
        self._state = EngineState.READY if ready else EngineState.UNLOADED
        self._replies: deque[Reply] = deque()

    def enqueue(
        self,
        text: str = "reply",
        *,
        delay_s: float = 0.0,
        raises: EngineError | None = None,
        tokens: Sequence[str] | None = None,
        finish_reason: FinishReason = FinishReason.STOP,
        hold: threading.Event | None = None,
        logprobs: Sequence[TokenLogprob] | None = None,
        tool_calls: Sequence[ToolCall] = (),
        reasoning: str | None = None,
        probabilities: tuple[float, ...] | None = None,
    ) -> None:
        """Adds the answer to one conversation.

        Arguments: `text`, or its `tokens` one by one; `delay_s`, spent before the first token unless cancelled;
        `raises`, an error instead of an answer; `hold`, an event without which the last token does not come;
        `logprobs`, told as they are;
        `tool_calls` and `reasoning`, as the model's parsers would have read them; `probabilities`, of the words of a
        choice.
        """
        words = tuple(tokens) if tokens is not None else (text,)
        if tool_calls:
            finish_reason = FinishReason.TOOL_CALLS
        told = tuple(logprobs) if logprobs is not None else None
        calls = tuple(tool_calls)
        self._replies.append(Reply(words, delay_s, raises, finish_reason, hold, told, calls, reasoning, probabilities))

    @property
    def conversations(self) -> list[Conversation]:
        """All conversations so far, in order."""
        return [conversation for batch in self.batches for conversation in batch]

    def status(self) -> EngineStatus:
        """What a status shows once the model was loaded, and before."""
        status = EngineStatus(self._state, self.model_name)
        if self._state not in (EngineState.READY, EngineState.OFFLOADED):
            return status
        return replace(
            status,
            dtype="float32",
            max_model_len=2048,
            supports_images=True,
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

    def vet(self, schema: dict[str, Any], control: Control) -> None:
        """Tries the schema in this process."""
        if find_spec("llguidance") is not None and (problem := problem_of(json.dumps(schema))) is not None:
            raise InvalidGeneration(f"this schema cannot be used: {problem}.")

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
            reply = self._replies.popleft() if self._replies else _DEFAULT_REPLY
            try:
                completions.append(_completion(index, conversation, reply, control))
            except EngineError as error:
                if len(conversations) == 1 or isinstance(error, GenerationCancelled):
                    raise
                completions.append(Completion(error=str(error)))
            if control.on_finished is not None and completions[-1].finish_reason is not FinishReason.TIMEOUT:
                control.on_finished(index)
        self.last_used_s = time.monotonic()
        return completions

    def offload(self) -> None:
        """Moves a ready model, if this engine can."""
        if self._state is not EngineState.READY:
            return
        if not self.can_offload:
            raise OffloadUnsupported("Offloading is not supported on this backend (cpu). Use release_gpu.")
        self._state = EngineState.OFFLOADED

    def process_ids(self) -> list[int]:
        """Only this process."""
        return [os.getpid()]

    def release(self) -> None:
        """Forgets that the model was loaded."""
        self.released = True
        self._state = EngineState.UNLOADED

    def close(self) -> None:
        """Notes the end."""
        self.closed = True


def _completion(index: int, conversation: Conversation, reply: Reply, control: Control) -> Completion:
    prompt_tokens = sum(len(message.text.split()) for message in conversation.messages)
    begin_s = time.monotonic()
    said: list[str] = []
    held = [lambda: time.monotonic() - begin_s < reply.delay_s]
    finish_reason = reply.finish_reason
    for number, token in enumerate(reply.tokens, start=1):
        if reply.hold is not None and number == len(reply.tokens):
            held.append(_closed(reply.hold))
        if not _goes_on(held, control):
            finish_reason = FinishReason.TIMEOUT
            break
        if reply.raises is not None:
            raise reply.raises
        said.append(token)
        if control.on_text is not None:
            control.on_text(index, token, number)
    return Completion(
        text="".join(said),
        finish_reason=finish_reason,
        prompt_tokens=prompt_tokens,
        completion_tokens=len(said),
        cached_tokens=0,
        image_tokens=sum(len(message.images) for message in conversation.messages) * 16,
        first_token_ms=1.0,
        logprobs=reply.logprobs,
        tool_calls=reply.tool_calls,
        reasoning=reply.reasoning,
        choice_probabilities=None if finish_reason is FinishReason.TIMEOUT else reply.probabilities,
    )


def _goes_on(held: Sequence[Callable[[], bool]], control: Control) -> bool:
    """Waits until nothing holds the generation; False when its time was up first."""
    while True:
        if control.cancelled():
            raise GenerationCancelled
        if control.deadline_s is not None and time.monotonic() >= control.deadline_s:
            return False
        if not any(holds() for holds in held):
            return True
        time.sleep(LOOK_S)


def _closed(gate: threading.Event) -> Callable[[], bool]:
    return lambda: not gate.is_set()


def texts_of(conversation: Conversation) -> list[tuple[str, str]]:
    """A conversation as pairs of role and text, with `<image>` for each picture."""
    return [
        (message.role, " ".join(part.text if isinstance(part, TextPart) else "<image>" for part in message.content))
        for message in conversation.messages
    ]
