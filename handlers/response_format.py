"""The form of an answer in OpenAI's words: free text, any JSON object, or JSON that a schema describes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from engine.errors import InvalidGeneration
from engine.interface import ResponseFormat
from engine.schemas import usable_schema
from mcp_protocol.tools import ArgumentError

if TYPE_CHECKING:
    from handlers.sampling import SamplingArguments

WHERE = "arguments.response_format"


class TextFormat(msgspec.Struct, tag="text", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """Free text, as without the argument."""


class JsonObjectFormat(msgspec.Struct, tag="json_object", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """Some JSON object."""


class JsonSchema(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A named schema."""

    name: Annotated[str, Meta(min_length=1, max_length=64, description="Any name; it changes nothing.")]
    schema: Annotated[dict[str, Any], Meta(description="The JSON Schema of the answer.")]
    strict: Annotated[bool | None, Meta(description="Accepted; the schema always holds.")] = None
    description: Annotated[str | None, Meta(description="Accepted and ignored.")] = None


class JsonSchemaFormat(msgspec.Struct, tag="json_schema", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """JSON that a schema describes."""

    json_schema: JsonSchema


ResponseFormatArgument = Annotated[
    TextFormat | JsonObjectFormat | JsonSchemaFormat,
    Meta(
        description="json_object or json_schema: the answer is JSON, without spaces and line ends between its parts. "
        "With finish_reason 'length' or 'timeout' it is cut off: allow more tokens, and bound strings (maxLength) and "
        "arrays (maxItems). Objects get no properties but those that the schema lists; numbers are written out, "
        "with at most 19 digits before the point and 9 behind it."
    ),
]


def response_format_of(
    asked: TextFormat | JsonObjectFormat | JsonSchemaFormat | None,
    sampling: SamplingArguments,
    vet: Callable[[dict[str, Any]], None],
) -> ResponseFormat | None:
    """The engine's format for a call, `None` for free text.

    Arguments: what was asked for; how to sample; `vet` refuses a schema that the engine cannot follow.

    Raises: `ArgumentError` for a schema that the engine cannot follow, and for sampling that would break the JSON.
    """
    if asked is None or isinstance(asked, TextFormat):
        return None
    _refuse_what_breaks_json(sampling)
    if isinstance(asked, JsonObjectFormat):
        return ResponseFormat()
    try:
        schema = usable_schema(asked.json_schema.schema)
        vet(schema)
    except InvalidGeneration as error:
        raise ArgumentError(f"{WHERE}.json_schema.schema: {error}") from None
    return ResponseFormat(schema)


def _refuse_what_breaks_json(sampling: SamplingArguments) -> None:
    if sampling.ignore_eos:
        raise ArgumentError("arguments.ignore_eos: does not go with response_format: JSON ends where it is complete")
    if sampling.min_tokens:
        raise ArgumentError("arguments.min_tokens: does not go with response_format: JSON ends where it is complete")
    if sampling.stop:
        raise ArgumentError("arguments.stop: does not go with response_format: it would cut the JSON off")
