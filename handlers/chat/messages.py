"""The messages of a conversation as callers write them, and their conversion to the engine's messages.

The Structs are the published format; `message_forms` converts what clients of other APIs write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from engine.interface import Message, TextPart
from engine.parts import Media, too_many_of
from handlers.chat.media_reading import KINDS, MediaSource
from handlers.chat.message_forms import canonical_message
from handlers.chat.tool_calls import MAX_CALLS, AssistantCall, CallId, tool_calls_of
from handlers.image_reading import ImageData, ImageSource
from mcp_protocol.jsonrpc import Json
from mcp_protocol.tools.schema import OUTLINE
from mcp_protocol.tools.toolbox import ArgumentError
from media.errors import MediaError
from media.inline import refuse_other_media
from media.kinds import IMAGE


class TextContent(msgspec.Struct, tag="text", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """Text."""

    text: str


class ImageUrl(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """An image's URL in OpenAI's format."""

    url: Annotated[str, Meta(description="http(s), data: or file: URL, or absolute path.", min_length=1)]
    detail: Annotated[str | None, Meta(description="Ignored.")] = None


class ImageUrlContent(msgspec.Struct, tag="image_url", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """An image by URL."""

    image_url: ImageUrl


class ImageContent(msgspec.Struct, tag="image", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """An image by reference, or as base64 in MCP's format; exactly one of path and data."""

    path: Annotated[str | None, Meta(description="Absolute path or URL.")] = None
    data: Annotated[str | None, Meta(description="Base64.")] = None
    mimeType: Annotated[str | None, Meta(description="Of data.")] = None


class AudioContent(ImageContent, tag="audio", frozen=True):
    """Audio by reference, or as base64 in MCP's format; exactly one of path and data."""


class VideoContent(ImageContent, tag="video", frozen=True):
    """A video by reference, or as base64; exactly one of path and data."""


MediaContent = ImageUrlContent | ImageContent | AudioContent | VideoContent
Part = TextContent | MediaContent


class ChatMessage(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One message. Other fields that clients send back from a reply are ignored."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Annotated[
        str | Annotated[list[Part], Meta(min_length=1)] | UnsetType | None,
        Meta(description="Text, or a list of parts: text, image_url, or image, audio, video with path or data."),
    ] = UNSET
    tool_calls: (
        Annotated[
            list[AssistantCall],
            Meta(max_length=MAX_CALLS, description="An assistant message's calls, as the result had them."),
            OUTLINE,
        ]
        | None
    ) = None
    tool_call_id: Annotated[CallId, Meta(description="Only with role tool.")] | None = None

    @staticmethod
    def canonical(message: Json) -> Json:
        """Converts a message in another API's format."""
        return canonical_message(message)


ReadMedia = Callable[[Sequence[ImageSource | MediaSource]], AbstractContextManager[Iterable[Media | str]]]
"""Reads media in order; yields an error text for each that cannot be read."""


def engine_messages(
    messages: Sequence[ChatMessage], read: ReadMedia, max_images: int, where: str = "arguments.messages"
) -> tuple[Message, ...]:
    """Reads all images, audio and videos, and returns the engine's messages.

    Arguments:
        messages: at least one.
        read: reads their media.
        max_images: maximum number of images in one prompt, and of audio parts, and of videos.
        where: the argument's name, for error texts.

    Raises: `ArgumentError`, which names the message or part by its position, and what `read` raises.
    """
    if messages[-1].role not in ("user", "tool"):
        raise ArgumentError(f"{where}: the last message must have the role user or tool, not {messages[-1].role}.")
    for i, message in enumerate(messages):
        _check_fields(message, f"{where}[{i}]")
    sources = _sources(messages, where)
    if count := too_many_of([_kind_of(source) for _, source in sources], max_images):
        raise ArgumentError(f"{where}: {count}; one prompt holds at most {max_images} (VLLM_MAX_IMAGES_PER_PROMPT).")
    media = iter(_media(sources, read))
    return tuple(
        Message(
            message.role,
            tuple(TextPart(part.text) if isinstance(part, TextContent) else next(media) for part in parts_of(message)),
            tool_calls_of(message.tool_calls or (), f"{where}[{i}].tool_calls"),
            message.tool_call_id,
        )
        for i, message in enumerate(messages)
    )


def _sources(messages: Sequence[ChatMessage], where: str) -> list[tuple[str, ImageSource | MediaSource]]:
    """The position of each medium in the conversation, and its source."""
    return [
        (f"{where}[{i}].content[{j}]", source_of(part, f"{where}[{i}].content[{j}]"))
        for i, message in enumerate(messages)
        for j, part in enumerate(parts_of(message))
        if not isinstance(part, TextContent)
    ]


def _kind_of(source: ImageSource | MediaSource) -> str:
    return source.kind if isinstance(source, MediaSource) else "image"


def _media(sources: Sequence[tuple[str, ImageSource | MediaSource]], read: ReadMedia) -> list[Media]:
    if not sources:
        return []
    parts = []
    with read([source for _, source in sources]) as media:
        for (position, _), part in zip(sources, media, strict=True):
            if isinstance(part, str):
                raise ArgumentError(f"{position}: {part}")
            parts.append(part)
    return parts


def _check_fields(message: ChatMessage, where: str) -> None:
    """Rejects fields that a message's role does not allow."""
    if message.tool_calls and message.role != "assistant":
        raise ArgumentError(f"{where}.tool_calls: only an assistant message has them.")
    is_empty_reply = message.role == "assistant" and message.content is None  # sent back by clients
    if not message.tool_calls and not is_empty_reply and (message.content is None or message.content is UNSET):
        raise ArgumentError(
            f"{where}.content: expected str | array; only an assistant message with tool_calls may omit it."
        )
    if message.role == "tool" and message.tool_call_id is None:
        raise ArgumentError(f"{where}.tool_call_id: a tool message needs the id of the call whose result it contains.")
    if message.role != "tool" and message.tool_call_id is not None:
        raise ArgumentError(f"{where}.tool_call_id: only a tool message has it.")


def parts_of(message: ChatMessage) -> Sequence[Part]:
    """The parts of a message; a plain text is one part."""
    return [TextContent(message.content)] if isinstance(message.content, str) else message.content or ()


def reference_of(part: MediaContent) -> str:
    """The path or URL of a part; empty if the part contains the data."""
    return part.image_url.url if isinstance(part, ImageUrlContent) else part.path or ""


def source_of(part: MediaContent, where: str) -> ImageSource | MediaSource:
    """The source of an image, audio or a video; raises `ArgumentError`."""
    if isinstance(part, ImageUrlContent):
        return part.image_url.url
    if (part.path is None) == (part.data is None):
        raise ArgumentError(f"{where}: {_article(part)} part needs exactly one of path and data.")
    kind: Literal["audio", "video"] | None = None
    if isinstance(part, AudioContent | VideoContent):
        kind = "audio" if isinstance(part, AudioContent) else "video"
    if part.path is None:
        data = part.data or ""
        return ImageData(data, part.mimeType) if kind is None else MediaSource(kind, None, data, part.mimeType)
    try:
        refuse_other_media(part.mimeType, IMAGE if kind is None else KINDS[kind])
    except MediaError as error:
        raise ArgumentError(f"{where}: {error}") from None
    return part.path if kind is None else MediaSource(kind, part.path)


def _article(part: ImageContent) -> str:
    return {AudioContent: "an audio", VideoContent: "a video"}.get(type(part), "an image")
