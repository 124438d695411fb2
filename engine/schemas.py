"""Which JSON Schemas are taken at all, and what an engine is told of them: cheap checks, in time in proportion to the
schema's size. Whether an engine can follow one is tried out elsewhere (`schema_trial`)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from engine.errors import InvalidGeneration
from engine.schema_tree import KEYWORDS, SchemaTree

OPTIONS = "x-guidance"
"""A key at a schema's root by which the backend takes options, laxness among them."""

MAX_SCHEMA_BYTES = 100_000
MAX_NESTING = 64
"""vLLM's own limit, and OpenAI's is 10."""
MAX_COUNT = 10_000
"""Of all items and properties that a schema counts up to: the grammar grows with each."""
MAX_LENGTH = 1_000_000

FORMATS = frozenset(
    {
        "date-time",
        "date",
        "time",
        "duration",
        "email",
        "idn-email",
        "hostname",
        "idn-hostname",
        "ipv4",
        "ipv6",
        "uri",
        "uri-reference",
        "iri",
        "iri-reference",
        "uuid",
        "uri-template",
        "json-pointer",
        "relative-json-pointer",
        "regex",
    }
)
"""Those that JSON Schema 2020-12 defines, of which the backend refuses some. Any other is a note, as it says itself:
libraries write "password", "path", "binary" or "int32"."""

COUNTS = ("minItems", "maxItems", "minProperties", "maxProperties")
_COUNTED = (*COUNTS, "minContains", "maxContains")
_LENGTHS = ("minLength", "maxLength")
_NAMED_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions")
_SCHEMAS = ("items", "prefixItems", "additionalProperties", "anyOf", "oneOf", "allOf")
_OTHERS = ("additionalProperties", "unevaluatedProperties", "minProperties", "const", "enum")
"""What may speak of properties that are not listed."""
_DIALECTS = ("https://json-schema.org/draft-", "http://json-schema.org/schema", "https://spec.openapis.org/oas/")
"""Names of JSON Schema, as generators write them, that the backend does not know; it reads them as 2020-12."""
_ENDLESS = 1e18
"""Stands for any larger count: an integer may be too large for the sum."""


def usable_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as an engine gets it: objects that list their properties have no others, and what says nothing is left
    out; see `closed`.

    Raises: `InvalidGeneration`, which says what about the schema cannot be used.
    """
    _check_size(schema)
    if OPTIONS in schema:
        raise InvalidGeneration(f"the schema has the key {OPTIONS!r}, which is not for callers. Leave it out.")
    tree = SchemaTree(schema)
    _check_counts(tree.nodes)
    return _closed(schema, tree)


def counted(node: dict[str, Any]) -> float:
    """How many items and properties one object of a schema counts up to; a grammar grows with each."""
    return sum(_number(node, name) for name in _COUNTED)


def _check_counts(nodes: Iterable[dict[str, Any]]) -> None:
    total = 0.0
    for node in nodes:
        reference = node.get("$ref", "#")
        if isinstance(reference, str) and not reference.startswith("#"):
            raise InvalidGeneration(
                f"the schema refers to {reference[:100]!r}; a $ref has to point into the schema itself, as '#/$defs/x'."
            )
        total += counted(node)
        if any(_number(node, name) > MAX_LENGTH for name in _LENGTHS):
            raise InvalidGeneration(f"minLength and maxLength may be at most {MAX_LENGTH}.")
    if total > MAX_COUNT:
        raise InvalidGeneration(
            f"{', '.join(COUNTS)} of the whole schema add up to {total:.0f}; {MAX_COUNT} are allowed."
        )


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with `additionalProperties: false` where an object lists its properties and does not speak of others.

    JSON Schema means "any others" then, which models read as an invitation to go on for ever. Where two schemas hold
    for one object, each lists only its own part; these stay as they are. What says nothing goes: formats that JSON
    Schema does not define, `propertyNames` that only says that they are strings, `uniqueItems: false`.
    """
    return _closed(schema, SchemaTree(schema))


def _check_size(schema: dict[str, Any]) -> None:
    level: list[Any] = [schema]
    for _ in range(MAX_NESTING):
        level = [child for node in level for child in _children(node)]
    if level:
        raise InvalidGeneration(f"the schema is nested too deeply; {MAX_NESTING} levels are allowed.")
    n_bytes = len(json.dumps(schema))
    if n_bytes > MAX_SCHEMA_BYTES:
        raise InvalidGeneration(f"the schema has {n_bytes} bytes; {MAX_SCHEMA_BYTES} are allowed.")


def _children(node: Any) -> list[Any]:
    values = node.values() if isinstance(node, dict) else node
    return [child for child in values if isinstance(child, dict | list)]


def _names_any_string(names: Any) -> bool:
    return names is True or (isinstance(names, dict) and names in ({}, {"type": "string"}))


_NOTHING: Mapping[str, Callable[[Any], bool]] = {
    "format": lambda written: isinstance(written, str) and written not in FORMATS,
    "propertyNames": _names_any_string,
    "uniqueItems": lambda are_unique: are_unique is False,
    "$schema": lambda written: isinstance(written, str) and written.startswith(_DIALECTS),
}
"""When a keyword of which the backend would refuse the value says nothing at all."""


def _number(node: dict[str, Any], name: str) -> float:
    value = node.get(name, 0)
    return min(value, _ENDLESS) if isinstance(value, int | float) and value > 0 else 0


def _closed(schema: dict[str, Any], tree: SchemaTree) -> dict[str, Any]:
    crowded = tree.crowded()

    def close(node: Any) -> Any:
        if isinstance(node, list):
            return [close(item) for item in node]
        if not isinstance(node, dict):
            return node
        changed = rebuilt(node, close, tree)
        for name in filter(changed.__contains__, _NOTHING):
            if _NOTHING[name](node[name]):
                del changed[name]
        listed, required = node.get("properties"), node.get("required", [])
        if crowded is None or id(node) in crowded or not isinstance(listed, dict) or not isinstance(required, list):
            return changed
        others_needed = any(not isinstance(name, str) or name not in listed for name in required)
        if not others_needed and not any(name in node for name in _OTHERS):
            changed["additionalProperties"] = False
        return changed

    result: dict[str, Any] = close(schema)
    return result


def rebuilt(node: dict[str, Any], change: Callable[[Any], Any], tree: SchemaTree) -> dict[str, Any]:
    """A copy of an object with each schema in it changed: those below keywords, and those that references find below
    other names, such as OpenAPI's `components`."""

    def elsewhere(value: Any) -> Any:
        if isinstance(value, list):
            return [elsewhere(item) for item in value]
        if not isinstance(value, dict):
            return value
        if tree.is_schema(value):
            return change(value)
        return {name: elsewhere(child) for name, child in value.items()}

    return {
        name: {key: change(child) for key, child in value.items()}
        if name in _NAMED_SCHEMAS and isinstance(value, dict)
        else change(value)
        if name in _SCHEMAS
        else value
        if name in KEYWORDS
        else elsewhere(value)
        for name, value in node.items()
    }
