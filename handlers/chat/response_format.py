"""The response format in OpenAI's terms: free text, any JSON object, or JSON that matches a schema."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from engine.interface import ResponseFormat
from mcp_protocol.tools.schema import OUTLINE


class TextFormat(msgspec.Struct, tag="text", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """Free text, as without the argument."""


class JsonObjectFormat(msgspec.Struct, tag="json_object", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """Any JSON object."""


class JsonSchema(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A named schema."""

    name: Annotated[str, Meta(min_length=1, max_length=64, description="Any name; it has no effect.")]
    schema: Annotated[dict[str, Any], Meta(description="The JSON Schema of the reply.")]
    strict: Annotated[bool | None, Meta(description="Accepted; the schema is always enforced.")] = None
    description: Annotated[str | None, Meta(description="Accepted and ignored.")] = None


class JsonSchemaFormat(msgspec.Struct, tag="json_schema", tag_field="type", forbid_unknown_fields=True, frozen=True):
    """JSON that matches a schema."""

    json_schema: Annotated[JsonSchema, Meta(description='{"name": NAME, "schema": JSON Schema of the reply}'), OUTLINE]


ResponseFormatArgument = Annotated[
    TextFormat | JsonObjectFormat | JsonSchemaFormat,
    Meta(
        description="Makes the reply JSON; it is complete unless finish_reason is 'length' or 'timeout': raise "
        "max_tokens, and limit strings and arrays in the schema."
    ),
]


def response_format_of(argument: TextFormat | JsonObjectFormat | JsonSchemaFormat | None) -> ResponseFormat | None:
    """The engine's response format, `None` for free text."""
    if argument is None or isinstance(argument, TextFormat):
        return None
    return ResponseFormat(argument.json_schema.schema if isinstance(argument, JsonSchemaFormat) else None)
