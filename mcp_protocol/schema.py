"""JSON Schemas from Structs, in the plain form that every host reads and forwards: no references, no vendor keywords.

What is published is at most as narrow as what `tools.validated` checks. Some bounds are told in words instead, since
one schema that a host cannot carry costs it the tool, or all tools of all servers:

- every enum has its type, and a single value is an enum too: Gemini's API knows no `const`, and Gemini CLI leaves out
  tools with a node without a type;
- no `exclusiveMinimum` and `exclusiveMaximum`, which Gemini's API refuses;
- nothing stands beside `anyOf`: Vertex AI refuses a function whose schema has a description there;
- no length above `MAX_REPETITIONS`: llama.cpp writes each as so many rules of one grammar for all tools, and refuses it
  from 2,000 on, less where lengths are nested;
- no number above `MAX_NUMBER`, which a host written in JavaScript would change.
"""

from __future__ import annotations

from typing import Any

import msgspec

from mcp_protocol.jsonrpc import Json

MAX_REPETITIONS = 64
MAX_NUMBER = 2**53 - 1
AS_JSON = "Arrays, objects, numbers and booleans are given as JSON, not as text."
NO_ARGUMENTS = "This tool takes no arguments."
_NULL = {"type": "null"}
_LENGTHS = {
    "minLength": "At least {:,} characters.",
    "maxLength": "At most {:,} characters.",
    "minItems": "At least {:,}.",
    "maxItems": "At most {:,}.",
}
_EXCLUSIVE = {"exclusiveMinimum": ("minimum", 1, "Above {}."), "exclusiveMaximum": ("maximum", -1, "Below {}.")}
_TYPES: dict[type, str] = {str: "string", bool: "boolean", int: "integer", float: "number"}


def of_arguments(cls: type[msgspec.Struct]) -> Json:
    """The schema of a tool's arguments.

    Required arguments come first. An optional one is shown by its type alone, without null: language models fill in
    what they see.
    """
    schema: Json = _with_lone_alternatives(_portable(_without_nulls(_plain(cls))))
    required = schema.get("required", [])
    properties = schema["properties"]
    schema["properties"] = {
        name: properties[name] for name in (*required, *(n for n in properties if n not in required))
    }
    schema["description"] = AS_JSON if properties else NO_ARGUMENTS
    return schema


def of_result(cls: type[msgspec.Struct]) -> Json:
    """The schema of a tool's result, in which null stands for "not known"."""
    schema: Json = _portable(_plain(cls))
    return schema


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
    return inlined


def _without_nulls(node: Any) -> Any:
    """Without null as an alternative: in arguments it is the same as leaving something out."""
    if isinstance(node, list):
        return [_without_nulls(item) for item in node]
    if not isinstance(node, dict):
        return node
    plain = {key: _without_nulls(value) for key, value in node.items()}
    choices = plain.get("anyOf")
    if isinstance(choices, list) and _NULL in choices:
        del plain["anyOf"]
        rest = [choice for choice in choices if choice != _NULL]
        plain |= rest[0] if len(rest) == 1 else {"anyOf": rest}
        if plain.get("default", 0) is None:
            del plain["default"]
    return plain


def _with_lone_alternatives(node: Any) -> Any:
    """With the description of alternatives in the first of them."""
    if isinstance(node, list):
        return [_with_lone_alternatives(item) for item in node]
    if not isinstance(node, dict):
        return node
    alone = {key: _with_lone_alternatives(value) for key, value in node.items()}
    if isinstance(alone.get("anyOf"), list) and isinstance(alone.get("description"), str):
        first, *others = alone["anyOf"]
        words = [alone.pop("description"), *([first["description"]] if "description" in first else [])]
        alone["anyOf"] = [{**first, "description": " ".join(words)}, *others]
    return alone


def _portable(node: Any, *, are_properties: bool = False) -> Any:
    """The same within what every host forwards."""
    if isinstance(node, list):
        return [_portable(item) for item in node]
    if not isinstance(node, dict):
        return node
    if are_properties:
        return {name: _portable(value) for name, value in node.items()}
    words = []
    portable: Json = {}
    for key, value in node.items():
        if key in _LENGTHS and value > MAX_REPETITIONS:
            words.append(_LENGTHS[key].format(value))
        elif key in _EXCLUSIVE:
            inclusive, step, sentence = _EXCLUSIVE[key]
            portable[inclusive] = value + step if node.get("type") == "integer" else value
            words += [sentence.format(value)] if node.get("type") != "integer" else []
        elif key == "const":
            portable["enum"] = [value]
        elif key in ("default", "enum", "required"):
            if value != [] or key == "default":
                portable[key] = value
        elif key not in ("minimum", "maximum") or abs(value) <= MAX_NUMBER:
            portable[key] = _portable(value, are_properties=key == "properties")
    if "enum" in portable:
        portable = {"type": _TYPES[type(portable["enum"][0])], **portable}
    if words:
        portable["description"] = " ".join([*([portable["description"]] if "description" in portable else []), *words])
    return portable
