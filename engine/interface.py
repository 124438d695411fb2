"""The interface of an engine: messages in, completions out.

`LocalEngine` (vLLM in this process) and `RemoteEngine` (a remote server) implement it. Handlers use nothing else.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from engine.errors import GenerationCancelled
from engine.parts import AudioPart as AudioPart
from engine.parts import ImagePart as ImagePart
from engine.parts import Media, Part
from engine.parts import TextPart as TextPart
from engine.parts import VideoPart as VideoPart
from sandbox.cancellation import Cancellation


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function call by the model; `arguments` is JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation; `role` is `system`, `user`, `assistant` or `tool`.

    `tool_calls` are those of an assistant message, and `model` is the name of the model that wrote it, where that is
    known; `tool_call_id` says to which of them a tool message belongs.
    """

    role: str
    content: tuple[Part, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    model: str | None = None

    @property
    def text(self) -> str:
        """The message's text without its media."""
        return "\n".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def images(self) -> tuple[ImagePart, ...]:
        """The message's images in order."""
        return tuple(part for part in self.content if isinstance(part, ImagePart))

    @property
    def media(self) -> tuple[Media, ...]:
        """The message's images, audio and videos in order."""
        return tuple(part for part in self.content if not isinstance(part, TextPart))


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
    """How many alternatives to return for each token, 0 for the chosen one alone; `None` for no log-probabilities."""


@dataclass(frozen=True, slots=True)
class ResponseFormat:
    """The form of the generated text: any JSON object, or with a `schema` JSON that it describes."""

    schema: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages, oldest first, and how to generate the next one.

    Arguments:
        messages: those so far.
        sampling: how to sample.
        response_format: `None` for free text.
        tools: functions that the model may call, in OpenAI's shape (`{"type": "function", "function": {...}}`).
        tool_choice: `auto`, `none`, `required`, or the name of the one function that must be called.
        enable_thinking: whether a reasoning model reasons first; `None` leaves it to the model.
        lora: the name of a LoRA adapter of the settings, `None` for the model itself.
        choice: words of which the generated text is exactly one, whatever the sampling; empty for free text.
    """

    messages: tuple[Message, ...]
    sampling: Sampling
    response_format: ResponseFormat | None = None
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: str = "auto"
    enable_thinking: bool | None = None
    lora: str | None = None
    choice: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SpeechWindow:
    """Speech of at most 30 s for a model that transcribes, and what it is to write of it.

    Arguments:
        samples: mono at 16,000 Hz, float32 in little-endian order, from -1 to 1.
        sampling: how to sample; `logprobs` is 0, since the log-probabilities tell how sure the model is.
        language: Whisper's code of the spoken language, e.g. `en`. `None`: only the language is asked for, and the
            completion has `language_probabilities` in place of a text.
        translates: whether the text is to be English, whatever the language.
        timestamps: whether the text is to have the times of its segments, as `<|0.00|> Good morning.<|1.20|>`.
        prompt: text that is taken as said before: names and spellings, a style.
    """

    samples: bytes | memoryview
    sampling: Sampling
    language: str | None = None
    translates: bool = False
    timestamps: bool = True
    prompt: str = ""
    response_format: ClassVar[None] = None
    """As of a conversation, whose text is free."""


class FinishReason(enum.StrEnum):
    """Why a completion ended: OpenAI's reasons, and `timeout` for the deadline of a call.

    `content_filter` only comes from remote servers; the text is what their filter let through.
    """

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    TIMEOUT = "timeout"
    CONTENT_FILTER = "content_filter"


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A token, its log-probability (natural) before sampling, and the most likely tokens (`top`) in its place."""

    token: str
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """The result of one conversation. Token counts are vLLM's; `None` where it does not report them.

    `error` is set, and `text` empty, where one conversation of a batch was rejected and the others were not.
    `first_token_ms` counts from the moment `generate` was called on a loaded engine.
    The model's parsers take `reasoning` and `tool_calls` out of `text`. `choice_probabilities` has one value for each
    word of `Conversation.choice`, with a sum of 1; `None` without a choice, or where the deadline came first.
    `remarks` are sentences about what a remote server did not accept or send as requested.
    Of a `SpeechWindow`, `no_speech_prob` is the probability that nobody speaks in it, and `language_probabilities` are
    those of each language by its code, with a sum of 1; `logprobs` has one position for each token of the text.
    """

    text: str = ""
    finish_reason: FinishReason = FinishReason.STOP
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int | None = None
    image_tokens: int | None = None
    audio_tokens: int | None = None
    video_tokens: int | None = None
    first_token_ms: float | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] | None = None
    choice_probabilities: tuple[float, ...] | None = None
    error: str | None = None
    remarks: tuple[str, ...] = ()
    no_speech_prob: float | None = None
    language_probabilities: Mapping[str, float] | None = None


class EngineState(enum.StrEnum):
    """Where the model is. `engine/lifecycle.py` has the transitions."""

    UNLOADED = "unloaded"
    LOADING = "loading"
    READY = "ready"
    OFFLOADED = "offloaded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """The model's status, without loading it; `None` where a value is not known before a load."""

    state: EngineState
    model_name: str
    dtype: str | None = None
    max_model_len: int | None = None
    supports_images: bool | None = None
    supports_audio: bool | None = None
    supports_video: bool | None = None
    transcribes: bool | None = None
    """Whether the model transcribes speech, and takes no messages."""
    has_chat_template: bool | None = None
    quantization: str | None = None
    device: str | None = None
    vllm_version: str | None = None
    load_s: float | None = None
    error: str | None = None
    can_offload: bool | None = None
    server_url: str | None = None
    """The remote server that has the model; `served_models` are the names of all models there."""
    served_models: tuple[str, ...] = ()
    last_used_s: float | None = None
    """`time.monotonic()` at the end of the last load, wake-up or generation; `None` while nothing is loaded."""

    @property
    def accepts(self) -> tuple[str, ...]:
        """The kinds of media that the model accepts, or may accept where that is not known yet."""
        known = {"image": self.supports_images, "audio": self.supports_audio, "video": self.supports_video}
        return tuple(kind for kind, accepted in known.items() if accepted is not False)


OnText = Callable[[int, str, int], None]
"""Called in the thread of `generate` with the conversation's index, new text and the number of tokens so far."""

OnFinished = Callable[[int], None]
"""Called in the thread of `generate` with the index of a conversation that is complete or was rejected."""

OnPhase = Callable[[str], None]
"""Called when a load enters a phase, e.g. `"importing vLLM"`, `"loading weights"`, in the thread that waits for it."""


@dataclass(frozen=True, slots=True)
class Control:
    """How the caller watches and stops a generation.

    Arguments:
        cancellation: stops the generation, which then raises `GenerationCancelled`.
        deadline_s: `time.monotonic()` value after which every unfinished completion ends with `TIMEOUT` and the
            text it has; `None` for no limit.
        on_text: receives new text; `None` is faster.
        on_phase: receives the phases of a load that this generation needs.
        on_ready: called when such a load is over.
        on_finished: called for each conversation that has its completion.
    """

    cancellation: Cancellation = field(default_factory=Cancellation)
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
        """Raises `GenerationCancelled` when the generation is cancelled."""
        if self.cancellation.is_set():
            raise GenerationCancelled("The generation was cancelled.")


class Engine(Protocol):
    """A model that generates. Any thread may call any method; generations of several threads run side by side."""

    def status(self) -> EngineStatus:
        """The current status; never loads anything."""

    def load(self, on_phase: OnPhase | None = None) -> float:
        """Makes the model ready, from disk or from the host's memory; returns the seconds it took (0.0: it was ready).

        Raises: `EngineUnavailable`, `OutOfMemory`.
        """

    def check(self, conversation: Conversation, control: Control) -> Conversation:
        """Checks a conversation before it is generated, and returns it as `generate` takes it; loads nothing.

        Checks tools and tool_choice, the response format and its schema, sampling against the response format, the
        LoRA adapter's name and, where the conversation has messages, their roles and images. Error texts name the
        argument as callers write it (`arguments.tools[0].function.parameters: ...`).

        Arguments:
            conversation: what `generate` is to be given; `messages` may still be empty.
            control: its cancellation and deadline stop the check of a schema.
        Raises: `InvalidGeneration`, `GenerationFailed`, `GenerationCancelled`.
        """

    def generate(self, conversations: Iterable[Conversation], control: Control) -> list[Completion]:
        """Generates for all conversations as one batch, in their order; loads the model first where needed.

        Conversations are taken one by one, and each is added to the engine before the next is taken, so the iterable
        may prepare them meanwhile. An exception of the iterable ends the generation and is passed on. For an empty
        iterable nothing is loaded.

        A rejected conversation raises if it is the only one; otherwise its completion has an `error`.

        Raises: `EngineUnavailable`, `OutOfMemory`, `EngineDied`, `InvalidGeneration`, `PromptTooLong`,
        `GenerationFailed`, `GenerationCancelled`.
        """

    def transcribe(self, windows: Iterable[SpeechWindow], control: Control) -> list[Completion]:
        """Writes down what is said in all windows as one batch, in their order; as `generate` in all else.

        Raises: as `generate`; `InvalidGeneration` where the model does not transcribe.
        """

    def offload(self) -> None:
        """Moves the model off the GPU into the host's memory; the next `load` or `generate` brings it back.

        Does nothing where it is already there, or where no model is loaded.

        Raises: `OffloadUnsupported`, `OutOfMemory`, `EngineDied`.
        """

    def release(self) -> None:
        """Unloads the model and frees its memory; the next `generate` loads it again."""

    def process_ids(self) -> list[int]:
        """Ids of the engine's processes on this machine, this process included."""

    def close(self) -> None:
        """Ends the engine and every process it started; called once, at the end of the server."""
