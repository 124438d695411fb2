"""What an engine is: messages in, completions out.

`LocalEngine` (vLLM in this process) and `RemoteEngine` (a server elsewhere) implement it; handlers and tests know only
what stands here.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from engine.errors import GenerationCancelled

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class TextPart:
    """A piece of text inside a message."""

    text: str


@dataclass(frozen=True, slots=True)
class ImagePart:
    """A picture inside a message: decoded, upright, RGB.

    `digest` is a SHA-256 over the encoded picture and how it was decoded: the engine's caches know the picture by it,
    so two pictures that differ never share one.
    """

    image: Image
    digest: str

    @property
    def n_bytes(self) -> int:
        """Size of the decoded pixels in memory."""
        return self.image.width * self.image.height * len(self.image.getbands())


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model wants called; `arguments` is the JSON text that it wrote."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation; `role` is `system`, `user`, `assistant` or `tool`.

    `tool_calls` are those that an assistant made; `tool_call_id` says which of them a tool's message answers.
    """

    role: str
    content: tuple[TextPart | ImagePart, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """The message's text without its pictures."""
        return "\n".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def images(self) -> tuple[ImagePart, ...]:
        """The message's pictures in order."""
        return tuple(part for part in self.content if isinstance(part, ImagePart))


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample, in vLLM's own names and ranges; `None` leaves a value to vLLM's default."""

    temperature: float
    max_tokens: int
    top_p: float = 1.0
    top_k: int = -1
    min_p: float = 0.0
    min_tokens: int = 0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logprobs: int | None = None
    """How many alternatives to tell at each token, 0 for the chosen one alone; `None` for no log-probabilities."""


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """What the answer must be: any JSON object, or with a `schema` JSON that it describes."""

    schema: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """What to answer: the messages, oldest first, and how.

    Arguments:
        response_format: `None` for free text.
        tools: functions that the model may ask for, in OpenAI's shape (`{"type": "function", "function": {...}}`).
        tool_choice: `auto`, `none`, `required`, or the name of the one function that must be called.
        enable_thinking: whether a model that can reason first does so; `None` leaves it to the model.
        lora: the name of an adapter that the settings know, `None` for the model itself.
        choice: words of which the answer is exactly one, whatever the sampling says; empty for free text.
    """

    messages: tuple[Message, ...]
    sampling: Sampling
    response_format: ResponseFormat | None = None
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: str = "auto"
    enable_thinking: bool | None = None
    lora: str | None = None
    choice: tuple[str, ...] = ()


class FinishReason(enum.StrEnum):
    """Why a completion ended: OpenAI's words, and `timeout` for a deadline of ours.

    `content_filter` only comes from servers elsewhere: what their filter let through of an answer is the text.
    """

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    TIMEOUT = "timeout"
    CONTENT_FILTER = "content_filter"


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """One token of an answer, its natural log-probability before sampling, and the likeliest `top` in its place."""

    token: str
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """One answer. Token counts are vLLM's own; `None` where it did not measure them.

    `error` is set, and `text` empty, where this conversation of a batch was refused and the others went on.
    `first_token_ms` counts from the moment `generate` was called on a loaded engine.
    `reasoning` and `tool_calls` were taken out of `text` by the model's parsers. `choice_probabilities` has one figure
    for each word of `Conversation.choice`, 1 together; `None` where there was no choice, or no time to make it.
    `remarks` are sentences about what a server elsewhere did not take or send as it was asked.
    """

    text: str = ""
    finish_reason: FinishReason = FinishReason.STOP
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int | None = None
    image_tokens: int | None = None
    first_token_ms: float | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] | None = None
    choice_probabilities: tuple[float, ...] | None = None
    error: str | None = None
    remarks: tuple[str, ...] = ()


class EngineState(enum.StrEnum):
    """Where the model is. `engine/lifecycle.py` has the transitions."""

    UNLOADED = "unloaded"
    LOADING = "loading"
    READY = "ready"
    OFFLOADED = "offloaded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What is known of the model without loading it; `None` where that is not known before a load."""

    state: EngineState
    model_name: str
    dtype: str | None = None
    max_model_len: int | None = None
    supports_images: bool | None = None
    has_chat_template: bool | None = None
    quantization: str | None = None
    device: str | None = None
    vllm_version: str | None = None
    load_s: float | None = None
    error: str | None = None
    can_offload: bool | None = None
    server_url: str | None = None
    """Where the model is when it is not here; `served_models` are the names of those that the server there has."""
    served_models: tuple[str, ...] = ()
    last_used_s: float | None = None
    """`time.monotonic()` at the end of the last load, wake-up or generation; `None` while nothing is loaded."""


OnText = Callable[[int, str, int], None]
"""Called between two steps as `(index, new_text, completion_tokens_so_far)`; index counts the conversations."""

OnFinished = Callable[[int], None]
"""Called between two steps with the index of a conversation whose answer is complete, or was refused."""

OnPhase = Callable[[str], None]
"""Called when a load enters a phase, e.g. `"importing vLLM"`, `"loading weights"`, in the thread that waits for it."""


@dataclass(frozen=True, slots=True)
class Control:
    """How a generation is watched and stopped from outside.

    Arguments:
        cancelled: asked between two steps; True raises `GenerationCancelled`.
        deadline_s: `time.monotonic()` value after which every unfinished completion ends with `TIMEOUT` and the
            text it has; `None` for no limit.
        on_text: who listens to new text, or `None` (cheaper).
        on_phase: who listens to the phases of a load that this generation needs.
        on_ready: who is told that such a load is over.
        on_finished: who counts finished conversations; costs nothing.
    """

    cancelled: Callable[[], bool] = field(default=lambda: False)
    deadline_s: float | None = None
    on_text: OnText | None = None
    on_phase: OnPhase | None = None
    on_ready: Callable[[], None] | None = None
    on_finished: OnFinished | None = None

    @property
    def is_late(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline_s is not None and time.monotonic() >= self.deadline_s

    def stop_if_cancelled(self) -> None:
        """Raises `GenerationCancelled` when the generation is to stop."""
        if self.cancelled():
            raise GenerationCancelled("The generation was cancelled.")


class Engine(Protocol):
    """What handlers ask of an engine. Any thread may call any method; generations of several run side by side."""

    def status(self) -> EngineStatus:
        """What is known now; never loads anything; safe from any thread."""

    def load(self, on_phase: OnPhase | None = None) -> float:
        """Makes the model ready, from disk or from the host's memory; returns the seconds it took (0.0: it was ready).

        Raises: `EngineUnavailable`, `OutOfMemory`.
        """

    def vet(self, schema: dict[str, Any], control: Control) -> None:
        """Refuses a JSON Schema that the engine could not be made to follow; loads nothing.

        Of the control, it asks whether the call is cancelled and when its time is up.

        Raises: `InvalidGeneration`, `GenerationFailed`, `GenerationCancelled`.
        """

    def generate(self, conversations: Iterable[Conversation], control: Control) -> list[Completion]:
        """Answers all conversations as one batch, in the order given; loads the model first where needed.

        They are taken one by one, and each is prepared before the next is asked for: they may still be in the making.
        What the iterable raises ends the generation and is passed on; where it is empty, nothing is loaded.

        With a single conversation a refusal raises; with several it becomes that completion's `error`.

        Raises: `EngineUnavailable`, `OutOfMemory`, `EngineDied`, `InvalidGeneration`, `PromptTooLong`,
        `GenerationFailed`, `GenerationCancelled`.
        """

    def offload(self) -> None:
        """Moves the model off the GPU into the host's memory; the next `load` or `generate` brings it back.

        Does nothing where it is there already, or where no model is loaded.

        Raises: `OffloadUnsupported`, `OutOfMemory`, `EngineDied`.
        """

    def release(self) -> None:
        """Drops the model and gives its memory back; the next `generate` loads it again."""

    def process_ids(self) -> list[int]:
        """Ids of the processes on this machine that the engine runs in; this one is always among them."""

    def close(self) -> None:
        """Ends the engine and every process it started; called once, at the end of the server."""
