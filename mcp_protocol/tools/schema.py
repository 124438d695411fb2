"""JSON Schemas from Structs, in a form that every client and model API accepts: no references, no vendor keywords.

A tool's arguments have two schemas: the complete one, for the documentation, and a brief one for `tools/list`, which
every host puts into its model's context. Neither allows less than `toolbox.validated`. In the complete schema some
bounds are in the description, because one schema that a client cannot handle costs it the tool, or all tools of all
servers:

- every enum has a type, and `const` becomes an enum: Gemini's API rejects `const`, and Gemini CLI omits tools with an
  untyped node;
- no `exclusiveMinimum` and `exclusiveMaximum`, which Gemini's API rejects;
- no sibling of `anyOf`: Vertex AI rejects a description there;
- no length above `MAX_REPETITIONS`: llama.cpp turns it into as many grammar rules, and fails from 2,000 on, or less for
  nested lengths;
- no number above `MAX_NUMBER`, which JavaScript cannot represent.

The brief schema leaves out what the validation reports anyway, such as the lengths of texts and unknown members of
inner objects. In it, alternative objects that differ in their `type` are one object, and arguments marked `OUTLINE` do
not list the members of their objects.
"""

from __future__ import annotations

from typing import Any

import msgspec

from mcp_protocol.jsonrpc import Json

MAX_REPETITIONS = 64
MAX_NUMBER = 2**53 - 1
OUTLINE = msgspec.Meta(extra_json_schema={"outline": True})
"""Marks an argument of which the brief schema shows only the outline: its objects have no listed members."""
_NULL = {"type": "null"}
_LENGTHS = {
    "minLength": "At least {:,} characters.",
    "maxLength": "At most {:,} characters.",
    "minItems": "At least {:,}.",
    "maxItems": "At most {:,}.",
}
_EXCLUSIVE = {"exclusiveMinimum": ("minimum", 1, "Above {}."), "exclusiveMaximum": ("maximum", -1, "Below {}.")}
_NOT_BRIEF = ("additionalProperties", "maxLength")
_LONGEST_MAXIMUM = 10**6
_TYPES: dict[type, str] = {str: "string", bool: "boolean", int: "integer", float: "number"}


def of_arguments(cls: type[msgspec.Struct], *, brief: bool = False) -> Json:
    """The schema of a tool's arguments, complete or `brief`.

    Required arguments come first. Optional arguments do not allow null, because language models would send it.
    """
    plain = _without_nulls(_plain(cls, documented=not brief))
    schema: Json = _with_bare_any_of(_portable(_brief(plain) if brief else plain))
    required = schema.get("required", [])
    properties = schema["properties"]
    schema["properties"] = {
        name: properties[name] for name in (*required, *(n for n in properties if n not in required))
    }
    schema.pop("description", None)  # the Struct's docstring
    return {**schema, "additionalProperties": False}


def of_result(cls: type[msgspec.Struct]) -> Json:
    """The schema of a tool's result, in which null means unknown."""
    schema: Json = _portable(_plain(cls))
    return schema


def _plain(cls: type[msgspec.Struct], *, documented: bool = True) -> Json:
    """The schema with the docstrings of Structs as descriptions, unless `documented` is false."""
    (schema,), components = msgspec.json.schema_components([cls], ref_template="{name}")
    if not documented:
        components = {name: {k: v for k, v in each.items() if k != "description"} for name, each in components.items()}
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
        del inlined["title"]  # the Struct's class name
    return inlined


def _without_nulls(node: Any) -> Any:
    """Removes null as an alternative: for arguments it equals omission."""
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


def _brief(node: Any) -> Any:
    """Leaves out what a model does not need to write a call, and joins alternative objects; see the module."""
    if isinstance(node, list):
        return [_brief(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "outline" in node:
        node = _outlined(node)
    elif all("type" in choice.get("properties", ()) for choice in node.get("anyOf", [{}])):
        node = _joined(node)
    short: Json = {}
    for key, value in node.items():
        if key == "properties":
            short[key] = {name: _brief(member) for name, member in value.items()}
        elif key in _EXCLUSIVE and node.get("type") != "integer":
            short[_EXCLUSIVE[key][0]] = value
        elif key in ("default", "enum", "required"):
            short |= {key: value} if value or key != "default" else {}
        elif key == "maximum" and value > _LONGEST_MAXIMUM:
            continue
        elif key not in _NOT_BRIEF and (key not in _LENGTHS or 1 < value <= MAX_REPETITIONS):
            short[key] = _brief(value)
    return short


def _joined(node: Json) -> Json:
    """One object in place of alternative objects that differ in their `type`: it has the members of all of them."""
    choices = node["anyOf"]
    kinds = [kind for choice in choices for kind in choice["properties"]["type"]["enum"]]
    members = {name: member for choice in choices for name, member in choice["properties"].items()}
    joined = {
        "type": "object",
        "properties": {**members, "type": {"enum": kinds}},
        "required": [name for name in members if all(name in choice["required"] for choice in choices)],
    }
    return {**{key: value for key, value in node.items() if key != "anyOf"}, **joined}


def _outlined(node: Any) -> Any:
    """The node without the members of its objects."""
    if isinstance(node, list):
        return [_outlined(item) for item in node]
    if not isinstance(node, dict):
        return node
    if "properties" in node:
        return {key: value for key, value in node.items() if key in ("type", "description")}
    return {key: _outlined(value) for key, value in node.items() if key != "outline"}


def _with_bare_any_of(node: Any) -> Any:
    """Moves a description beside `anyOf` into the first alternative."""
    if isinstance(node, list):
        return [_with_bare_any_of(item) for item in node]
    if not isinstance(node, dict):
        return node
    alone = {key: _with_bare_any_of(value) for key, value in node.items()}
    if isinstance(alone.get("anyOf"), list) and isinstance(alone.get("description"), str):
        first, *others = alone["anyOf"]
        words = [alone.pop("description"), *([first["description"]] if "description" in first else [])]
        alone["anyOf"] = [{**first, "description": " ".join(words)}, *others]
    return alone


def _portable(node: Any, *, are_properties: bool = False) -> Any:
    """Replaces the keywords that some clients reject; see the module."""
    if isinstance(node, list):
        return [_portable(item) for item in node]
    if not isinstance(node, dict):
        return node
    if are_properties:
        return {name: _portable(value) for name, value in node.items()}
    words = []
    portable: Json = {}
    for key, value in node.items():
        if key == "outline":
            continue
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
