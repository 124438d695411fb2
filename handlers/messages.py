"""The messages of a conversation as callers write them, and how they become the engine's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from engine.interface import ImagePart, Message, TextPart
from handlers.functions import MAX_CALLS, AssistantCall, CallId, tool_calls_of
from mcp_protocol.tools import ArgumentError
from media.errors import MediaError

if TYPE_CHECKING:
    from media.image import DecodedImage, ImageReader


class TextContent(msgspec.Struct, tag="text", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """Text."""

    text: str


class ImageUrl(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A picture's address in OpenAI's form."""

    url: Annotated[str, Meta(description="http(s), data: (base64) or file: URL.", min_length=1)]
    detail: Annotated[str | None, Meta(description="Accepted and ignored.")] = None


class ImageUrlContent(msgspec.Struct, tag="image_url", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """A picture by URL."""

    image_url: ImageUrl


class ImageContent(msgspec.Struct, tag="image", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """A picture by absolute path, or as base64 in MCP's form; exactly one of path and data."""

    path: Annotated[str | None, Meta(description="Absolute path of a picture on this machine.")] = None
    data: Annotated[str | None, Meta(description="The picture's bytes as base64.")] = None
    mimeType: Annotated[str | None, Meta(description="The picture's media type, e.g. image/png.")] = None


Part = TextContent | ImageUrlContent | ImageContent


class ChatMessage(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """One message of the conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Annotated[
        str | Annotated[list[Part], Meta(min_length=1)] | None,
        Meta(description="Text, or a list of text and pictures; may be left out beside tool_calls."),
    ] = None
    tool_calls: (
        Annotated[
            list[AssistantCall],
            Meta(max_length=MAX_CALLS, description="Calls that the assistant made; only in its messages."),
        ]
        | None
    ) = None
    tool_call_id: Annotated[CallId, Meta(description="The call that a tool message answers.")] | None = None


def engine_messages(
    messages: Sequence[ChatMessage], images: ImageReader, max_images: int, where: str = "arguments.messages"
) -> tuple[Message, ...]:
    """Reads every picture and returns the messages as the engine takes them.

    Arguments: the messages, at least one; the reader; how many pictures one prompt may hold; the name of the
    argument for error texts.
    Raises: `ArgumentError`, which names the message or picture by its position.
    """
    if messages[-1].role not in ("user", "tool"):
        raise ArgumentError(f"{where}: the last message must have the role user or tool; it has {messages[-1].role}.")
    for i, message in enumerate(messages):
        _check_fields(message, f"{where}[{i}]")
    n_images = sum(not isinstance(part, TextContent) for message in messages for part in parts_of(message))
    if n_images > max_images:
        raise ArgumentError(
            f"{where}: {n_images} pictures; one prompt holds at most {max_images} (VLLM_MAX_IMAGES_PER_PROMPT)."
        )
    return tuple(
        Message(
            message.role,
            tuple(_engine_part(part, images, f"{where}[{i}].content[{j}]") for j, part in enumerate(parts_of(message))),
            tool_calls_of(message.tool_calls or (), f"{where}[{i}].tool_calls"),
            message.tool_call_id,
        )
        for i, message in enumerate(messages)
    )


def _check_fields(message: ChatMessage, where: str) -> None:
    """Refuses fields that do not go with a message's role."""
    if message.tool_calls and message.role != "assistant":
        raise ArgumentError(f"{where}.tool_calls: only a message of the role assistant has them.")
    if message.content is None and not message.tool_calls:
        raise ArgumentError(f"{where}.content: expected str | array; only an assistant with tool_calls needs none.")
    if message.role == "tool" and message.tool_call_id is None:
        raise ArgumentError(f"{where}.tool_call_id: a message of the role tool names the call that it answers.")
    if message.role != "tool" and message.tool_call_id is not None:
        raise ArgumentError(f"{where}.tool_call_id: only a message of the role tool has it.")


def parts_of(message: ChatMessage) -> Sequence[Part]:
    """The pieces of a message, a plain text as one."""
    return [TextContent(message.content)] if isinstance(message.content, str) else message.content or ()


def _engine_part(part: Part, images: ImageReader, where: str) -> TextPart | ImagePart:
    if isinstance(part, TextContent):
        return TextPart(part.text)
    try:
        decoded = _read(part, images, where)
    except MediaError as error:
        raise ArgumentError(f"{where}: {error}") from None
    return ImagePart(decoded.image, decoded.digest)


def _read(part: ImageUrlContent | ImageContent, images: ImageReader, where: str) -> DecodedImage:
    if isinstance(part, ImageUrlContent):
        return images.read_url(part.image_url.url)
    if part.path is not None and part.data is None:
        return images.read_path(part.path)
    if part.data is not None and part.path is None:
        return images.read_base64(part.data, part.mimeType)
    raise ArgumentError(f"{where}: an image part needs exactly one of path and data.")
