"""Validates JSON Schemas and prepares them for an engine, in time proportional to their size.

`engine.schemas.trial` finds out whether the grammar backend supports a schema.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from engine.errors import InvalidGeneration
from engine.schemas.tree import KEYWORDS, SchemaTree

OPTIONS = "x-guidance"
"""A key at a schema's root with options of the backend, which could weaken its checks."""

MAX_SCHEMA_BYTES = 100_000
MAX_NESTING = 64
"""vLLM's limit; OpenAI's is 10."""
MAX_COUNT = 10_000
"""The sum of all item and property counts in a schema: the grammar grows with each."""
MAX_LENGTH = 1_000_000

FORMATS = (
    frozenset({"date-time", "date", "time", "duration", "email", "idn-email", "hostname", "idn-hostname"})
    | {"ipv4", "ipv6", "uri", "uri-reference", "iri", "iri-reference", "uuid", "uri-template"}
    | {"json-pointer", "relative-json-pointer", "regex"}
)
"""The formats of JSON Schema 2020-12, of which the backend rejects some. Any other is only an annotation; libraries
write "password", "path", "binary" or "int32"."""

COUNTS = ("minItems", "maxItems", "minProperties", "maxProperties")
_COUNTED = (*COUNTS, "minContains", "maxContains")
_LENGTHS = ("minLength", "maxLength")
_NAMED_SCHEMAS = ("properties", "patternProperties", "$defs", "definitions")
_SCHEMAS = ("items", "prefixItems", "additionalProperties", "anyOf", "oneOf", "allOf")
_OTHERS = ("additionalProperties", "unevaluatedProperties", "minProperties", "const", "enum")
"""Keywords that may allow or forbid unlisted properties."""
_DIALECTS = ("https://json-schema.org/draft-", "http://json-schema.org/schema", "https://spec.openapis.org/oas/")
"""Dialects that generators declare and the backend does not know; they are read as 2020-12."""
_MAX_SUMMAND = 1e18
"""Larger counts are replaced by this one: an integer may be too large for a float."""


def usable_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema for an engine, changed by `closed`.

    Raises: `InvalidGeneration`, which says which part cannot be used.
    """
    _check_size(schema)
    if OPTIONS in schema:
        raise InvalidGeneration(f"the schema has the key {OPTIONS!r}, which is not allowed. Leave it out.")
    tree = SchemaTree(schema)
    _check_counts(tree.nodes)
    return _closed(schema, tree)


def counted(node: dict[str, Any]) -> float:
    """The sum of the item and property counts in one schema object."""
    return sum(_number(node, name) for name in _COUNTED)


def _check_counts(nodes: Iterable[dict[str, Any]]) -> None:
    total = 0.0
    for node in nodes:
        reference = node.get("$ref", "#")
        if isinstance(reference, str) and not reference.startswith("#"):
            raise InvalidGeneration(
                f"the schema refers to {reference[:100]!r}; a $ref must point into the schema itself, like '#/$defs/x'."
            )
        total += counted(node)
        if any(_number(node, name) > MAX_LENGTH for name in _LENGTHS):
            raise InvalidGeneration(f"minLength and maxLength may be at most {MAX_LENGTH}.")
    if total > MAX_COUNT:
        raise InvalidGeneration(f"the sum of all {', '.join(COUNTS)} is {total:.0f}; {MAX_COUNT} is allowed.")


def closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with `additionalProperties: false` for objects that list properties and do not mention others.

    JSON Schema allows any other properties there, and models then generate them endlessly. Where several schemas apply
    to one object, each lists only some properties; these are not changed. Keywords without effect are removed: unknown
    formats, `propertyNames` that allow any string, `uniqueItems: false`.
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


_NO_EFFECT: Mapping[str, Callable[[Any], bool]] = {
    "format": lambda written: isinstance(written, str) and written not in FORMATS,
    "propertyNames": _names_any_string,
    "uniqueItems": lambda are_unique: are_unique is False,
    "$schema": lambda written: isinstance(written, str) and written.startswith(_DIALECTS),
}
"""Keywords whose value the backend may reject, each with a test whether that value has no effect."""


def _number(node: dict[str, Any], name: str) -> float:
    value = node.get(name, 0)
    return min(value, _MAX_SUMMAND) if isinstance(value, int | float) and value > 0 else 0


def _closed(schema: dict[str, Any], tree: SchemaTree) -> dict[str, Any]:
    shared = tree.shared()

    def close(node: Any) -> Any:
        if isinstance(node, list):
            return [close(item) for item in node]
        if not isinstance(node, dict):
            return node
        changed = rebuilt(node, close, tree)
        for name in filter(changed.__contains__, _NO_EFFECT):
            if _NO_EFFECT[name](node[name]):
                del changed[name]
        listed, required = node.get("properties"), node.get("required", [])
        if shared is None or id(node) in shared or not isinstance(listed, dict) or not isinstance(required, list):
            return changed
        others_needed = any(not isinstance(name, str) or name not in listed for name in required)
        if not others_needed and not any(name in node for name in _OTHERS):
            changed["additionalProperties"] = False
        return changed

    result: dict[str, Any] = close(schema)
    return result


def rebuilt(node: dict[str, Any], change: Callable[[Any], Any], tree: SchemaTree) -> dict[str, Any]:
    """A copy of a schema with each schema below it replaced by `change` of it.

    That includes schemas under other names that references point at, such as OpenAPI's `components`.
    """

    def outside(value: Any) -> Any:
        if isinstance(value, list):
            return [outside(item) for item in value]
        if not isinstance(value, dict):
            return value
        if tree.is_schema(value):
            return change(value)
        return {name: outside(child) for name, child in value.items()}

    return {
        name: {key: change(child) for key, child in value.items()}
        if name in _NAMED_SCHEMAS and isinstance(value, dict)
        else change(value)
        if name in _SCHEMAS
        else value
        if name in KEYWORDS
        else outside(value)
        for name, value in node.items()
    }
