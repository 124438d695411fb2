"""Chat: one conversation with or without a session, or many at once, and what is known of the model."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from engine.errors import GenerationCancelled, InvalidGeneration, PromptTooLong
from engine.interface import Completion, Control, Conversation, Message, OnText, TextPart
from handlers.answers import AnswerArguments, request_of
from handlers.functions import check_tool_messages, shown_calls
from handlers.logprobs import Logprobs, logprobs_of
from handlers.messages import ChatMessage, engine_messages
from handlers.progress import TextProgress, TokenProgress
from handlers.sampling import SamplingArguments
from mcp_protocol.tools import ArgumentError
from settings import SERVER_VERSION

if TYPE_CHECKING:
    from engine.sessions import Plan
    from handlers.services import Services
    from mcp_protocol.call import Call

SessionId = Annotated[str, Meta(min_length=1, max_length=256, description="Any name; the same name continues.")]
ForkId = Annotated[
    str, Meta(min_length=1, max_length=256, description="A name for the copy; without one it gets one, in the result.")
]
Messages = Annotated[list[ChatMessage], Meta(min_length=1, description="The conversation, oldest message first.")]


class ChatArguments(AnswerArguments, kw_only=True, frozen=True):
    """Arguments of `chat_completion`."""

    messages: Messages
    session_id: SessionId | None = None
    fork_session: Annotated[
        bool, Meta(description="Answer in a copy of the session; session_id names its source, which stays as it is.")
    ] = False
    fork_session_id: ForkId | None = None


class BatchArguments(AnswerArguments, kw_only=True, frozen=True):
    """Arguments of `chat_completion_batch`."""

    conversations: Annotated[
        list[Messages], Meta(min_length=1, max_length=256, description="Conversations that know nothing of each other.")
    ]


class NoArguments(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """For tools that take nothing."""


class Usage(msgspec.Struct, frozen=True):
    """Tokens, as vLLM counted them; null where it did not."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int | None
    image_tokens: int | None


class Timings(msgspec.Struct, frozen=True):
    """Milliseconds: waiting in the queue, loading the model, to the first token after that, and in all."""

    queue_ms: float
    load_ms: float
    first_token_ms: float | None
    total_ms: float


class ChatResult(msgspec.Struct, frozen=True):
    """Result of `chat_completion`; null where something was not asked for or does not apply."""

    text: str
    finish_reason: str
    usage: Usage
    model: str
    session_id: str | None
    session_messages: int | None
    truncated_messages: int
    seed: int | None
    timings: Timings
    tool_calls: list[dict[str, Any]] | None = None
    reasoning: str | None = None
    logprobs: Logprobs | None = None
    store_problem: str | None = None


class BatchItem(msgspec.Struct, frozen=True):
    """One conversation's answer, or why it has none."""

    index: int
    text: str | None
    finish_reason: str | None
    usage: Usage | None
    error: str | None
    logprobs: Logprobs | None = None
    tool_calls: list[dict[str, Any]] | None = None
    reasoning: str | None = None


class BatchResult(msgspec.Struct, frozen=True):
    """Result of `chat_completion_batch`: one entry per conversation, in their order."""

    results: list[BatchItem]
    usage: Usage
    timings: Timings


class ModelInfo(msgspec.Struct, frozen=True):
    """Result of `model_info`; null where it is not known before the model is loaded."""

    model_name: str
    server_state: str
    dtype: str | None
    max_model_len: int | None
    quantization: str | None
    supports_images: bool | None
    has_chat_template: bool | None
    max_images_per_prompt: int
    lora_modules: list[str]
    tensor_parallel_size: int
    pipeline_parallel_size: int
    gpu_memory_utilization: float
    device: str | None
    load_s: float | None
    error: str | None
    active_sessions: int
    max_sessions: int
    max_session_messages: int
    store_problem: str | None
    default_temperature: float
    default_max_tokens: int
    default_top_p: float
    default_top_k: int
    vllm_version: str | None
    server_version: str


class Stopwatch:
    """When the phases of a call began."""

    def __init__(self, call: Call) -> None:
        self._arrived_s = call.arrived_s
        self._started_s = time.monotonic()
        self.load_s = 0.0

    def timings(self, first_token_ms: float | None) -> Timings:
        """The figures so far."""
        return Timings(
            queue_ms=_ms(self._started_s - self._arrived_s),
            load_ms=_ms(self.load_s),
            first_token_ms=None if first_token_ms is None else round(first_token_ms, 3),
            total_ms=_ms(time.monotonic() - self._arrived_s),
        )


def chat_completion(arguments: ChatArguments, call: Call, services: Services) -> ChatResult:
    """Answers one conversation; with a session, continues it and remembers the turn when it succeeded."""
    _check_fork(arguments)
    watch = _begin(arguments, call)
    request = request_of(arguments, services.settings)
    max_images = services.settings.engine.max_images_per_prompt
    new_messages = engine_messages(arguments.messages, services.images, max_images)
    plan = _plan(arguments, new_messages, services)
    check_tool_messages(new_messages if plan is None else plan.new, "arguments.messages")
    watch.load_s = load(call, services)
    progress = TextProgress(call, request.sampling.max_tokens)
    control = control_of(call, progress.on_text if call.wants_progress else None)
    if plan is None:
        (completion,) = services.engine.generate([dataclasses.replace(request, messages=new_messages)], control)
    else:
        completion, plan = _generate_in_context(plan, request, control, services)
    progress.flush()
    if call.cancelled():
        raise GenerationCancelled
    session_messages, truncated_messages = None, 0
    if plan is not None:
        answer = Message("assistant", (TextPart(completion.text),), completion.tool_calls)
        stored = services.sessions.commit(plan, answer)
        session_messages, truncated_messages = stored.session_messages, stored.truncated_messages
        services.publish_sessions()
    call.log("info", f"{completion.completion_tokens} tokens, finish_reason {completion.finish_reason}")
    return ChatResult(
        text=completion.text,
        finish_reason=completion.finish_reason,
        usage=usage_of([completion]),
        model=services.engine.status().model_name,
        session_id=None if plan is None else plan.session_id,
        session_messages=session_messages,
        truncated_messages=truncated_messages,
        seed=arguments.seed,
        timings=watch.timings(completion.first_token_ms),
        logprobs=logprobs_of(completion),
        tool_calls=shown_calls(completion.tool_calls),
        reasoning=completion.reasoning,
        store_problem=None if plan is None else services.sessions.problem(),
    )


def text_of(result: ChatResult) -> str:
    """The one text block: the answer, or where the model only called functions, the calls as JSON."""
    if result.text or not result.tool_calls:
        return result.text
    return msgspec.json.encode(result.tool_calls).decode()


def chat_completion_batch(arguments: BatchArguments, call: Call, services: Services) -> BatchResult:
    """Answers many conversations in one engine batch; one that is refused does not fail the others."""
    watch = _begin(arguments, call)
    request = request_of(arguments, services.settings)
    max_images = services.settings.engine.max_images_per_prompt
    read = [
        _conversation(messages, request, services, max_images, f"arguments.conversations[{index}]")
        for index, messages in enumerate(arguments.conversations)
    ]
    runnable = [item for item in read if isinstance(item, Conversation)]
    watch.load_s = load(call, services)
    progress = TokenProgress(call, request.sampling.max_tokens, len(runnable))
    completions = iter(
        services.engine.generate(runnable, control_of(call, progress.on_text if call.wants_progress else None))
        if runnable
        else ()
    )
    answers = [next(completions) if isinstance(item, Conversation) else Completion(error=item) for item in read]
    if call.cancelled():
        raise GenerationCancelled
    return BatchResult(
        results=[_batch_item(index, answer) for index, answer in enumerate(answers)],
        usage=usage_of([answer for answer in answers if answer.error is None]),
        timings=watch.timings(min((a.first_token_ms for a in answers if a.first_token_ms is not None), default=None)),
    )


def model_info(arguments: NoArguments, call: Call, services: Services) -> ModelInfo:
    """What is known of the model and the server, without loading anything."""
    services.publish_sessions()
    return model_facts(services)


def model_facts(services: Services) -> ModelInfo:
    """What `model_info` tells, with the sessions as they were last published; safe from any thread."""
    status, settings = services.engine.status(), services.settings
    return ModelInfo(
        model_name=status.model_name,
        server_state=status.state,
        dtype=status.dtype,
        max_model_len=status.max_model_len,
        quantization=status.quantization,
        supports_images=status.supports_images,
        has_chat_template=status.has_chat_template,
        max_images_per_prompt=settings.engine.max_images_per_prompt,
        lora_modules=list(settings.engine.lora_modules),
        tensor_parallel_size=settings.engine.tensor_parallel_size,
        pipeline_parallel_size=settings.engine.pipeline_parallel_size,
        gpu_memory_utilization=settings.engine.gpu_memory_utilization,
        device=status.device,
        load_s=status.load_s,
        error=status.error,
        active_sessions=len(services.published_sessions),
        max_sessions=settings.sessions.max_sessions,
        max_session_messages=settings.sessions.max_session_messages,
        store_problem=services.published_store_problem,
        default_temperature=settings.sampling.temperature,
        default_max_tokens=settings.sampling.max_tokens,
        default_top_p=settings.sampling.top_p,
        default_top_k=settings.sampling.top_k,
        vllm_version=status.vllm_version,
        server_version=SERVER_VERSION,
    )


def load(call: Call, services: Services) -> float:
    """Makes the model ready, telling the call which phase it waits for; returns the seconds that took.

    Raises: the engine's errors; `GenerationCancelled` when the call was answered or cancelled meanwhile.
    """
    try:
        load_s = services.engine.load(call.enter_phase)
    finally:
        call.enter_phase(None)
    if call.cancelled():
        raise GenerationCancelled
    return load_s


def control_of(call: Call, on_text: OnText | None) -> Control:
    """How the engine watches a call's wishes between two steps."""
    return Control(cancelled=call.cancelled, deadline_s=call.deadline_s, on_text=on_text, on_phase=call.enter_phase)


def usage_of(completions: list[Completion]) -> Usage:
    """The tokens of some completions in all; a figure that is unknown for one is unknown for all."""
    prompt_tokens = sum(completion.prompt_tokens for completion in completions)
    completion_tokens = sum(completion.completion_tokens for completion in completions)
    return Usage(
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        total_tokens=prompt_tokens + completion_tokens,
        cached_tokens=_known_sum([completion.cached_tokens for completion in completions]),
        image_tokens=_known_sum([completion.image_tokens for completion in completions]),
    )


def _begin(arguments: SamplingArguments, call: Call) -> Stopwatch:
    if arguments.timeout_s is not None:
        call.limit(arguments.timeout_s)
    return Stopwatch(call)


def _check_fork(arguments: ChatArguments) -> None:
    if arguments.fork_session and arguments.session_id is None:
        raise ArgumentError("arguments.fork_session: needs a session_id, which names the session to copy")
    if arguments.fork_session_id is not None and not arguments.fork_session:
        raise ArgumentError("arguments.fork_session_id: names the copy that fork_session: true makes; that is not set")


def _plan(arguments: ChatArguments, new_messages: Sequence[Message], services: Services) -> Plan | None:
    if arguments.session_id is None:
        return None
    return services.sessions.plan(
        arguments.session_id,
        new_messages,
        services.settings.engine.max_images_per_prompt,
        fork=arguments.fork_session,
        fork_id=arguments.fork_session_id,
    )


def _generate_in_context(
    plan: Plan, request: Conversation, control: Control, services: Services
) -> tuple[Completion, Plan]:
    """Answers a session's prompt, leaving out its oldest turns until it fits into the model's context."""
    while True:
        try:
            (completion,) = services.engine.generate([dataclasses.replace(request, messages=plan.messages)], control)
        except PromptTooLong:
            shorter = plan.without_oldest_turn()
            if shorter is None:
                raise
            plan = shorter
        else:
            return completion, plan


def _conversation(
    messages: list[ChatMessage], request: Conversation, services: Services, max_images: int, where: str
) -> Conversation | str:
    """One conversation of a batch, or why it cannot be read."""
    try:
        read = engine_messages(messages, services.images, max_images, where)
        check_tool_messages(read, where)
    except (ArgumentError, InvalidGeneration) as error:
        return str(error)
    return dataclasses.replace(request, messages=read)


def _batch_item(index: int, answer: Completion) -> BatchItem:
    if answer.error is not None:
        return BatchItem(index, None, None, None, answer.error)
    return BatchItem(
        index,
        answer.text,
        answer.finish_reason,
        usage_of([answer]),
        None,
        tool_calls=shown_calls(answer.tool_calls),
        reasoning=answer.reasoning,
        logprobs=logprobs_of(answer),
    )


def _known_sum(values: list[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
