"""Chat: one conversation with or without a session, or many at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from engine.errors import GenerationCancelled, InvalidGeneration, PromptTooLong
from engine.interface import Completion, Control, Conversation, ImagePart, Message, TextPart
from handlers.answers import AnswerArguments, request_of
from handlers.costs import Stopwatch, Timings, Usage, usage_of
from handlers.functions import check_tool_messages, shown_calls
from handlers.held_images import images_of
from handlers.logprobs import Logprobs, logprobs_of
from handlers.messages import ChatMessage, ReadPictures, TextContent, engine_messages, parts_of, reference_of
from handlers.model import control_of, load
from handlers.pictures import NOT_IN_TIME, PictureSource, SideBySide, is_fetched, pictures_here, pictures_in_order
from handlers.progress import TextProgress, TokenProgress
from mcp_protocol.tools import ArgumentError

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


class ChatResult(msgspec.Struct, frozen=True):
    """Result of `chat_completion`; null where something was not asked for or does not apply. `warnings` say
    what a server elsewhere did not take or send as it was asked; they are only there where there are any."""

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
    warnings: list[str] | msgspec.UnsetType = msgspec.UNSET


class BatchItem(msgspec.Struct, frozen=True):
    """One conversation's answer, or why it has none; `warnings` say what a server
    elsewhere did not take."""

    index: int
    text: str | None
    finish_reason: str | None
    usage: Usage | None
    error: str | None
    logprobs: Logprobs | None = None
    tool_calls: list[dict[str, Any]] | None = None
    reasoning: str | None = None
    warnings: list[str] | msgspec.UnsetType = msgspec.UNSET


class BatchResult(msgspec.Struct, frozen=True):
    """Result of `chat_completion_batch`: one entry per conversation, in their order."""

    results: list[BatchItem]
    usage: Usage
    timings: Timings


def chat_completion(arguments: ChatArguments, call: Call, services: Services) -> ChatResult:
    """Answers one conversation; with a session, continues it and remembers the turn when it succeeded."""
    _check_fork(arguments)
    watch = Stopwatch(call)
    request = request_of(arguments, call, services)
    max_images = services.settings.engine.max_images_per_prompt
    images = images_of(call, services)
    new_messages = engine_messages(
        arguments.messages, lambda sources: pictures_in_order(sources, images, call), max_images
    )
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
        warnings=list(completion.remarks) or msgspec.UNSET,
    )


def text_of(result: ChatResult) -> str:
    """The one text block: the answer, or where the model only called functions, the calls as JSON."""
    if result.text or not result.tool_calls:
        return result.text
    return msgspec.json.encode(result.tool_calls).decode()


def chat_completion_batch(arguments: BatchArguments, call: Call, services: Services) -> BatchResult:
    """Answers many conversations in one engine batch; one that is refused does not fail the others."""
    watch = Stopwatch(call)
    request = request_of(arguments, call, services)
    read: list[Conversation | str] = []
    runnable: list[Conversation] = []
    completions: list[Completion] = []
    with _conversations(arguments.conversations, request, call, services) as conversations:

        def each() -> Iterator[Conversation]:
            for item in conversations:
                read.append(item)
                if isinstance(item, Conversation):
                    runnable.append(item)
                    yield item

        if any(isinstance(item, Conversation) for item in conversations):
            watch.load_s = load(call, services)
            progress = TokenProgress(call, request.sampling.max_tokens, runnable)
            control = control_of(call, progress.on_text if call.wants_progress else None)
            completions = services.engine.generate(each(), control)
        else:
            read += conversations
    answered = iter(completions)
    answers = [next(answered) if isinstance(item, Conversation) else Completion(error=item) for item in read]
    if call.cancelled():
        raise GenerationCancelled
    return BatchResult(
        results=[_batch_item(index, answer) for index, answer in enumerate(answers)],
        usage=usage_of([answer for answer in answers if answer.error is None]),
        timings=watch.timings(min((a.first_token_ms for a in answers if a.first_token_ms is not None), default=None)),
    )


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


def _conversations(
    conversations: Sequence[list[ChatMessage]], request: Conversation, call: Call, services: Services
) -> AbstractContextManager[Iterable[Conversation | str]]:
    """The conversations of a batch, each as it is or why it cannot be read; those with pictures are read side by
    side, while the first are already being prepared by the engine."""
    max_images = services.settings.engine.max_images_per_prompt
    images = images_of(call, services)

    def read_pictures(sources: Sequence[PictureSource]) -> AbstractContextManager[Iterable[ImagePart | str]]:
        return nullcontext(pictures_here(sources, images, call))

    def read(index: int) -> Conversation | str:
        where = f"arguments.conversations[{index}]"
        return _conversation(conversations[index], request, read_pictures, max_images, where)

    parts = [part for messages in conversations for message in messages for part in parts_of(message)]
    if all(isinstance(part, TextContent) for part in parts):
        return nullcontext([read(index) for index in range(len(conversations))])
    fetches = any(not isinstance(part, TextContent) and is_fetched(reference_of(part)) for part in parts)
    return SideBySide(read, len(conversations), call, NOT_IN_TIME, fetches=fetches)


def _conversation(
    messages: list[ChatMessage], request: Conversation, read_pictures: ReadPictures, max_images: int, where: str
) -> Conversation | str:
    """One conversation of a batch, or why it cannot be read."""
    try:
        read = engine_messages(messages, read_pictures, max_images, where)
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
        warnings=list(answer.remarks) or msgspec.UNSET,
    )
