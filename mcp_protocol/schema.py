"""JSON Schemas from Structs, in the plain form that every host reads: no references, no vendor keywords."""

from __future__ import annotations

from typing import Any

import msgspec

from mcp_protocol.jsonrpc import Json

_NULL = {"type": "null"}


def of_arguments(cls: type[msgspec.Struct]) -> Json:
    """The schema of a tool's arguments.

    Required arguments come first. An optional one is shown by its type alone, without null: language models fill in
    what they see.
    """
    schema: Json = _without_optional_nulls(_plain(cls))
    required = schema.get("required", [])
    properties = schema["properties"]
    schema["properties"] = {
        name: properties[name] for name in (*required, *(n for n in properties if n not in required))
    }
    return schema


def of_result(cls: type[msgspec.Struct]) -> Json:
    """The schema of a tool's result, in which null stands for "not known"."""
    return _plain(cls)


def _plain(cls: type[msgspec.Struct]) -> Json:
    (schema,), components = msgspec.json.schema_components([cls], ref_template="{name}")
    plain: Json = _inlined(schema, components)
    return plain


def _inlined(node: Any, components: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_inlined(item, components) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        rest = {key: value for key, value in node.items() if key != "$ref"}
        return {**_inlined(components[node["$ref"]], components), **rest}
    inlined = {key: _inlined(value, components) for key, value in node.items() if key != "discriminator"}
    if inlined.get("type") == "object" and isinstance(inlined.get("title"), str):
        del inlined["title"]  # the Struct's class name, which means nothing outside
    if len(inlined.get("enum", ())) == 1:
        inlined["const"] = inlined.pop("enum")[0]
    return inlined


def _without_optional_nulls(node: Any) -> Any:
    if isinstance(node, list):
        return [_without_optional_nulls(item) for item in node]
    if not isinstance(node, dict):
        return node
    plain = {key: _without_optional_nulls(value) for key, value in node.items()}
    choices = plain.get("anyOf")
    if isinstance(choices, list) and _NULL in choices and plain.get("default", 0) is None:
        del plain["default"], plain["anyOf"]
        rest = [choice for choice in choices if choice != _NULL]
        plain |= rest[0] if len(rest) == 1 else {"anyOf": rest}
    return plain
