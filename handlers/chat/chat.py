"""Chat: one conversation with or without a session, or many in one batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from engine.errors import GenerationCancelled, InvalidGeneration, PromptTooLong
from engine.interface import Completion, Control, Conversation, Message, TextPart
from engine.sessions.left_out import remark
from handlers.chat.logprobs import Logprobs, logprobs_of
from handlers.chat.media_reading import call_media, refusal
from handlers.chat.messages import ChatMessage, ReadMedia, TextContent, engine_messages, parts_of, reference_of
from handlers.chat.request import ReplyArguments, request_of
from handlers.chat.tool_calls import check_tool_messages, openai_calls
from handlers.image_reading import NOT_IN_TIME, OrderedPool, is_download
from handlers.model.model import control_of, model_in_use
from handlers.progress import TextProgress, TokenProgress
from handlers.usage import Stopwatch, Timings, Usage, usage_of
from mcp_protocol.tools.toolbox import ArgumentError

if TYPE_CHECKING:
    from engine.interface import Engine
    from engine.sessions.store import Plan
    from handlers.services import Services
    from mcp_protocol.calls.call import Call

SessionId = Annotated[
    str, Meta(min_length=1, max_length=256, description="Any name; the same name continues the session.")
]
ForkId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=256,
        description="Name of the copy; default: generated.",
    ),
]
Messages = Annotated[list[ChatMessage], Meta(min_length=1, description="Oldest first.")]


class ChatArguments(ReplyArguments, kw_only=True, frozen=True):
    """Arguments of `chat_completion`."""

    messages: Messages
    session_id: SessionId | None = None
    fork_session: Annotated[bool, Meta(description="Continue in a copy; the session stays as it is.")] = False
    fork_session_id: ForkId | None = None


class BatchArguments(ReplyArguments, kw_only=True, frozen=True):
    """Arguments of `chat_completion_batch`."""

    conversations: Annotated[
        list[Messages], Meta(min_length=1, max_length=256, description="Independent conversations.")
    ]


class ChatResult(msgspec.Struct, frozen=True):
    """Result of `chat_completion`; null if something was not requested or does not apply.

    `warnings` say which options a remote server ignored or changed, and how many media of earlier turns the model was
    not sent, since it does not accept them; the field is left out if there are none.
    """

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
    """The reply to one conversation, or its error; `warnings` as in `ChatResult`."""

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
    """Result of `chat_completion_batch`: one entry per conversation in the given order."""

    results: list[BatchItem]
    model: str
    usage: Usage
    timings: Timings


def chat_completion(arguments: ChatArguments, call: Call, services: Services) -> ChatResult:
    """Answers one conversation; with a session, continues it and stores the turn if it succeeded."""
    _check_fork(arguments)
    watch = Stopwatch(call)
    request = request_of(arguments, call, services)
    max_images = services.models.settings_of(arguments.model).max_images_per_prompt
    media = call_media(call, services, arguments.model)
    new_messages = engine_messages(arguments.messages, media.prompt_parts, max_images)
    plan = _plan(arguments, new_messages, max_images, services)
    accepts = _accepts(arguments.model, services)
    check_tool_messages(new_messages if plan is None else plan.new, "arguments.messages")
    with model_in_use(call, services, arguments.model) as model:
        watch.load_s = model.load_s
        _check_media(new_messages, model.name, services)
        if plan is not None and accepts != _accepts(model.name, services):  # known since the model is loaded
            plan = _plan(arguments, new_messages, max_images, services)
        progress = TextProgress(call, request.sampling.max_tokens)
        control = control_of(call, progress.on_text if call.wants_progress else None)
        if plan is None:
            (completion,) = model.engine.generate([dataclasses.replace(request, messages=new_messages)], control)
        else:
            completion, plan = _generate_in_context(plan, request, control, model.engine)
    progress.flush()
    if call.cancellation.is_set():
        raise GenerationCancelled
    answered_by = model.engine.status().model_name
    session_messages, truncated_messages = None, 0
    if plan is not None:
        reply = Message("assistant", (TextPart(completion.text),), completion.tool_calls, model=answered_by)
        stored = services.sessions.commit(plan, reply)
        session_messages, truncated_messages = stored.session_messages, stored.truncated_messages
        services.publish_sessions()
    call.log("info", f"{completion.completion_tokens} tokens, finish_reason {completion.finish_reason}")
    return ChatResult(
        text=completion.text,
        finish_reason=completion.finish_reason,
        usage=usage_of([completion]),
        model=answered_by,
        session_id=None if plan is None else plan.session_id,
        session_messages=session_messages,
        truncated_messages=truncated_messages,
        seed=arguments.seed,
        timings=watch.timings(completion.first_token_ms),
        logprobs=logprobs_of(completion),
        tool_calls=openai_calls(completion.tool_calls),
        reasoning=completion.reasoning,
        store_problem=None if plan is None else services.sessions.problem(),
        warnings=[*completion.remarks, *_left_out(plan, answered_by)] or msgspec.UNSET,
    )


def text_of(result: ChatResult) -> str:
    """The text block of a result: the reply, or the tool calls as JSON if there is no text."""
    if result.text or not result.tool_calls:
        return result.text
    return msgspec.json.encode(result.tool_calls).decode()


def chat_completion_batch(arguments: BatchArguments, call: Call, services: Services) -> BatchResult:
    """Answers many conversations in one engine batch; one that fails does not affect the others."""
    watch = Stopwatch(call)
    request = request_of(arguments, call, services)
    read: list[Conversation | str] = []
    runnable: list[Conversation] = []
    completions: list[Completion] = []
    with _conversations(arguments, request, call, services) as conversations:

        def readable() -> Iterator[Conversation]:
            for item in conversations:
                read.append(item)
                if isinstance(item, Conversation):
                    runnable.append(item)
                    yield item

        if any(isinstance(item, Conversation) for item in conversations):
            with model_in_use(call, services, arguments.model) as model:
                watch.load_s = model.load_s
                progress = TokenProgress(call, request.sampling.max_tokens, runnable)
                control = control_of(call, progress.on_text if call.wants_progress else None)
                completions = model.engine.generate(readable(), control)
        else:
            read += conversations
    generated = iter(completions)
    replies = [next(generated) if isinstance(item, Conversation) else Completion(error=item) for item in read]
    if call.cancellation.is_set():
        raise GenerationCancelled
    return BatchResult(
        results=[_batch_item(index, reply) for index, reply in enumerate(replies)],
        model=services.models.engine(arguments.model).status().model_name,
        usage=usage_of([reply for reply in replies if reply.error is None]),
        timings=watch.timings(min((r.first_token_ms for r in replies if r.first_token_ms is not None), default=None)),
    )


def _check_fork(arguments: ChatArguments) -> None:
    if arguments.fork_session and arguments.session_id is None:
        raise ArgumentError("arguments.fork_session: needs session_id, the session to copy")
    if arguments.fork_session_id is not None and not arguments.fork_session:
        raise ArgumentError("arguments.fork_session_id: needs fork_session: true, which makes the copy")


def _check_media(messages: Iterable[Message], model: str, services: Services) -> None:
    """Refuses media that the model turns out not to accept, once it is loaded."""
    kinds = {part.kind: None for message in messages for part in message.media}
    if text := refusal(kinds, services, model):
        raise InvalidGeneration(text)


def _plan(
    arguments: ChatArguments, new_messages: Sequence[Message], max_images: int, services: Services
) -> Plan | None:
    if arguments.session_id is None:
        return None
    return services.sessions.plan(
        arguments.session_id,
        new_messages,
        max_images,
        accepts=_accepts(arguments.model, services),
        fork=arguments.fork_session,
        fork_id=arguments.fork_session_id,
    )


def _accepts(model: str | None, services: Services) -> tuple[str, ...]:
    """The kinds of media that a prompt of the model may hold, as far as that is known now."""
    if not services.models.settings_of(model).max_images_per_prompt:
        return ()
    return services.models.engine(model).status().accepts


def _left_out(plan: Plan | None, model: str) -> list[str]:
    """What the caller is told about media of earlier turns that were not sent."""
    told = None if plan is None else remark(plan.media, plan.accepts, model)
    return [] if told is None else [told]


def _generate_in_context(
    plan: Plan, request: Conversation, control: Control, engine: Engine
) -> tuple[Completion, Plan]:
    """Continues a session, without its oldest turns if the prompt does not fit into the model's context."""
    while True:
        try:
            (completion,) = engine.generate([dataclasses.replace(request, messages=plan.messages)], control)
        except PromptTooLong:
            shorter = plan.without_oldest_turn()
            if shorter is None:
                raise
            plan = shorter
        else:
            return completion, plan


def _conversations(
    arguments: BatchArguments, request: Conversation, call: Call, services: Services
) -> AbstractContextManager[Iterable[Conversation | str]]:
    """The conversations of a batch, or for each that cannot be read its error text. Conversations with media are read
    in parallel, while the engine already prepares the first ones."""
    conversations = arguments.conversations
    max_images = services.models.settings_of(arguments.model).max_images_per_prompt
    media = call_media(call, services, arguments.model)

    def read(index: int) -> Conversation | str:
        where = f"arguments.conversations[{index}]"
        return _conversation(conversations[index], request, media.inline_parts, max_images, where)

    parts = [part for messages in conversations for message in messages for part in parts_of(message)]
    if all(isinstance(part, TextContent) for part in parts):
        return nullcontext([read(index) for index in range(len(conversations))])
    downloads = any(not isinstance(part, TextContent) and is_download(reference_of(part)) for part in parts)
    return OrderedPool(read, len(conversations), call, NOT_IN_TIME, downloads=downloads)


def _conversation(
    messages: list[ChatMessage], request: Conversation, read_media: ReadMedia, max_images: int, where: str
) -> Conversation | str:
    """One conversation of a batch, or the error text if it cannot be read."""
    try:
        read = engine_messages(messages, read_media, max_images, where)
        check_tool_messages(read, where)
    except (ArgumentError, InvalidGeneration) as error:
        return str(error)
    return dataclasses.replace(request, messages=read)


def _batch_item(index: int, reply: Completion) -> BatchItem:
    if reply.error is not None:
        return BatchItem(index, None, None, None, reply.error)
    return BatchItem(
        index,
        reply.text,
        reply.finish_reason,
        usage_of([reply]),
        None,
        tool_calls=openai_calls(reply.tool_calls),
        reasoning=reply.reasoning,
        logprobs=logprobs_of(reply),
        warnings=list(reply.remarks) or msgspec.UNSET,
    )
