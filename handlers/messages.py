"""The messages of a conversation as callers write them, and how they become the engine's.

The Structs are the form that is published; `message_forms` brings what clients of other APIs write to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from engine.interface import ImagePart, Message, TextPart
from handlers.functions import MAX_CALLS, AssistantCall, CallId, tool_calls_of
from handlers.message_forms import canonical_message
from handlers.pictures import PictureData, PictureSource
from mcp_protocol.jsonrpc import Json
from mcp_protocol.tools import ArgumentError
from media.errors import MediaError
from media.inline import refuse_other_media


class TextContent(msgspec.Struct, tag="text", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """Text."""

    text: str


class ImageUrl(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A picture's address in OpenAI's form."""

    url: Annotated[str, Meta(description="http(s), data: (base64) or file: URL, or absolute path.", min_length=1)]
    detail: Annotated[str | None, Meta(description="Accepted and ignored.")] = None


class ImageUrlContent(msgspec.Struct, tag="image_url", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """A picture by URL."""

    image_url: ImageUrl


class ImageContent(msgspec.Struct, tag="image", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """A picture by reference, or as base64 in MCP's form; exactly one of path and data."""

    path: Annotated[str | None, Meta(description="Absolute path, or file:, data: or http(s) URL.")] = None
    data: Annotated[str | None, Meta(description="The picture's bytes as base64.")] = None
    mimeType: Annotated[str | None, Meta(description="The picture's media type, e.g. image/png.")] = None


Part = TextContent | ImageUrlContent | ImageContent


class ChatMessage(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One message. What OpenAI's clients echo beside these fields is ignored."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Annotated[
        str | Annotated[list[Part], Meta(min_length=1)] | UnsetType | None,
        Meta(description="Text, or a list of text and pictures; may be left out beside tool_calls."),
    ] = UNSET
    tool_calls: (
        Annotated[
            list[AssistantCall],
            Meta(max_length=MAX_CALLS, description="Calls that the assistant made; only in its messages."),
        ]
        | None
    ) = None
    tool_call_id: Annotated[CallId, Meta(description="The call that a tool message answers.")] | None = None

    @staticmethod
    def canonical(message: Json) -> Json:
        """A message that is written in another way, in this one."""
        return canonical_message(message)


ReadPictures = Callable[[Sequence[PictureSource]], AbstractContextManager[Iterable[ImagePart | str]]]
"""Reads pictures in their order, each or why there is none."""


def engine_messages(
    messages: Sequence[ChatMessage], read: ReadPictures, max_images: int, where: str = "arguments.messages"
) -> tuple[Message, ...]:
    """Reads every picture and returns the messages as the engine takes them.

    Arguments: the messages, at least one; what reads their pictures; how many pictures one prompt may hold; the name of
    the argument for error texts.
    Raises: `ArgumentError`, which names the message or picture by its position, and what `read` raises.
    """
    if messages[-1].role not in ("user", "tool"):
        raise ArgumentError(f"{where}: the last message must have the role user or tool; it has {messages[-1].role}.")
    for i, message in enumerate(messages):
        _check_fields(message, f"{where}[{i}]")
    sources = _sources(messages, where)
    if len(sources) > max_images:
        raise ArgumentError(
            f"{where}: {len(sources)} pictures; one prompt holds at most {max_images} (VLLM_MAX_IMAGES_PER_PROMPT)."
        )
    pictures = iter(_pictures(sources, read))
    return tuple(
        Message(
            message.role,
            tuple(
                TextPart(part.text) if isinstance(part, TextContent) else next(pictures) for part in parts_of(message)
            ),
            tool_calls_of(message.tool_calls or (), f"{where}[{i}].tool_calls"),
            message.tool_call_id,
        )
        for i, message in enumerate(messages)
    )


def _sources(messages: Sequence[ChatMessage], where: str) -> list[tuple[str, PictureSource]]:
    """Where each picture of a conversation stands, and where it comes from."""
    return [
        (f"{where}[{i}].content[{j}]", source_of(part, f"{where}[{i}].content[{j}]"))
        for i, message in enumerate(messages)
        for j, part in enumerate(parts_of(message))
        if not isinstance(part, TextContent)
    ]


def _pictures(sources: Sequence[tuple[str, PictureSource]], read: ReadPictures) -> list[ImagePart]:
    if not sources:
        return []
    found = []
    with read([source for _, source in sources]) as pictures:
        for (place, _), picture in zip(sources, pictures, strict=True):
            if isinstance(picture, str):
                raise ArgumentError(f"{place}: {picture}")
            found.append(picture)
    return found


def _check_fields(message: ChatMessage, where: str) -> None:
    """Refuses fields that do not go with a message's role."""
    if message.tool_calls and message.role != "assistant":
        raise ArgumentError(f"{where}.tool_calls: only a message of the role assistant has them.")
    is_silent = message.role == "assistant" and message.content is None  # what clients echo of an empty answer
    if not message.tool_calls and not is_silent and (message.content is None or message.content is UNSET):
        raise ArgumentError(f"{where}.content: expected str | array; only an assistant with tool_calls needs none.")
    if message.role == "tool" and message.tool_call_id is None:
        raise ArgumentError(f"{where}.tool_call_id: a message of the role tool names the call that it answers.")
    if message.role != "tool" and message.tool_call_id is not None:
        raise ArgumentError(f"{where}.tool_call_id: only a message of the role tool has it.")


def parts_of(message: ChatMessage) -> Sequence[Part]:
    """The pieces of a message, a plain text as one."""
    return [TextContent(message.content)] if isinstance(message.content, str) else message.content or ()


def reference_of(part: ImageUrlContent | ImageContent) -> str:
    """The path or URL of a part's picture; empty where its data came along."""
    return part.image_url.url if isinstance(part, ImageUrlContent) else part.path or ""


def source_of(part: ImageUrlContent | ImageContent, where: str) -> PictureSource:
    """Where a part's picture comes from.

    Raises: `ArgumentError`.
    """
    if isinstance(part, ImageUrlContent):
        return part.image_url.url
    if (part.path is None) == (part.data is None):
        raise ArgumentError(f"{where}: an image part needs exactly one of path and data.")
    if part.path is None:
        return PictureData(part.data or "", part.mimeType)
    try:
        refuse_other_media(part.mimeType)
    except MediaError as error:
        raise ArgumentError(f"{where}: {error}") from None
    return part.path
