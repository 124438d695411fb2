from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import jsonschema
import msgspec
import pytest
from msgspec import Meta

from handlers.tool_table import TOOLS
from mcp_protocol.jsonrpc import encode
from mcp_protocol.tools import schema
from mcp_protocol.tools.toolbox import ArgumentError, Tool, validated


class Inner(msgspec.Struct, forbid_unknown_fields=True, tag="inner", tag_field="type"):
    """A part."""

    size: Annotated[int, Meta(ge=1, le=9)]


class Other(msgspec.Struct, forbid_unknown_fields=True, tag="other", tag_field="type"):
    """Another part."""

    name: str


class Arguments(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments with every kind of field."""

    text: Annotated[str, Meta(min_length=1)]
    seed: int | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    eager: bool = False
    mode: Literal["a", "b"] = "a"
    parts: Annotated[list[Inner | Other], Meta(max_length=2)] = []


def error_of(arguments: dict[str, Any]) -> str:
    """The sentence that refuses these arguments."""
    with pytest.raises(ArgumentError) as error:
        validated(arguments, Arguments)
    return str(error.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param({}, "arguments: object missing required field text", id="missing"),
        pytest.param({"text": ""}, "arguments.text: expected str of length >= 1", id="too short"),
        pytest.param({"text": None}, "arguments.text: expected str, got null", id="null where none is allowed"),
        pytest.param({"text": "x", "seed": True}, "arguments.seed: expected int | null, got bool", id="bool for int"),
        pytest.param({"text": "x", "seed": 1.5}, "arguments.seed: expected int | null, got float", id="fraction"),
        pytest.param({"text": "x", "seed": "x"}, "arguments.seed: expected int | null, got str", id="text for int"),
        pytest.param({"text": "x", "temperature": "hot"}, "arguments.temperature: expected float", id="text for float"),
        pytest.param({"text": "x", "temperature": True}, "arguments.temperature: expected float", id="bool for float"),
        pytest.param({"text": "x", "temperature": 2.1}, "arguments.temperature: expected float <= 2", id="too much"),
        pytest.param({"text": "x", "eager": 1}, "arguments.eager: expected bool, got int", id="int for bool"),
        pytest.param({"text": "x", "mode": "c"}, "arguments.mode: invalid enum value 'c'", id="not among the choices"),
        pytest.param({"text": "x", "parts": [{"type": "inner", "size": 0}]}, "arguments.parts[0].size:", id="inside"),
        pytest.param({"text": "x", "parts": [{"type": "video"}]}, "arguments.parts[0].type:", id="unknown kind"),
        pytest.param({"text": "x", "parts": [{"size": 1}]}, "arguments.parts[0]", id="no kind"),
        pytest.param({"text": "x", "parts": {}}, "arguments.parts: expected array, got object", id="no list"),
    ],
)
def test_wrong_argument_is_named_by_its_path(arguments: dict[str, Any], words: str) -> None:
    text = error_of(arguments)
    assert text.startswith(words)
    assert "`" not in text
    assert "$" not in text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("txt", "arguments.txt: there is no such argument. Did you mean text?"),
        ("temprature", "arguments.temprature: there is no such argument. Did you mean temperature?"),
        ("zzz", "arguments.zzz: there is no such argument. Known: text, seed, temperature, eager, mode, parts."),
        ("x" * 10_000, "arguments." + "x" * 60 + "…: there is no such argument."),
    ],
)
def test_unknown_argument_is_named_with_its_nearest(name: str, words: str) -> None:
    assert error_of({"text": "x", name: 1}).startswith(words)


def test_null_stands_for_an_optional_argument_left_out() -> None:
    assert validated({"text": "x", "seed": None, "temperature": None}, Arguments) == Arguments("x")


def test_whole_number_is_a_float() -> None:
    assert validated({"text": "x", "temperature": 1}, Arguments).temperature == 1.0


@pytest.mark.parametrize("headers", [{"authorization": "Bearer secret"}, None, "x", []])
def test_injected_headers_are_dropped_and_stay_with_the_caller(headers: Any) -> None:
    arguments = {"text": "x", "headers": headers}
    assert validated(arguments, Arguments) == Arguments("x")
    assert arguments["headers"] == headers


def test_headers_are_an_argument_where_a_tool_has_one() -> None:
    class WithHeaders(msgspec.Struct):
        headers: str

    assert validated({"headers": "x"}, WithHeaders) == WithHeaders("x")


def test_endless_nesting_is_refused() -> None:
    nested: Any = []
    for _ in range(100_000):
        nested = [nested]
    text = error_of({"text": "x", "parts": nested})
    assert text.startswith("arguments")


# Schemas


ARGUMENTS_SCHEMA = schema.of_arguments(Arguments)

PORTABLE = {
    "type", "properties", "required", "additionalProperties", "items", "enum", "default", "description", "anyOf",
    "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "title",
}  # fmt: skip
"""Keywords that every host's reader of schemas knows; no references, no conditions, no vendor words."""


def keywords_of(node: Any, in_properties: bool = False) -> set[str]:
    """All keywords of a schema, names of properties left out."""
    if isinstance(node, list):
        return {word for item in node for word in keywords_of(item)}
    if not isinstance(node, dict):
        return set()
    own = set() if in_properties else set(node)
    data = ("default", "const", "enum", "required")
    below = [keywords_of(value, key == "properties") for key, value in node.items() if in_properties or key not in data]
    return own.union(*below)


def test_required_arguments_come_first_and_optional_ones_without_null() -> None:
    assert next(iter(ARGUMENTS_SCHEMA["properties"])) == "text"
    assert ARGUMENTS_SCHEMA["required"] == ["text"]
    assert ARGUMENTS_SCHEMA["properties"]["seed"] == {"type": "integer"}
    assert ARGUMENTS_SCHEMA["properties"]["temperature"] == {"type": "number", "minimum": 0, "maximum": 2}
    assert ARGUMENTS_SCHEMA["additionalProperties"] is False


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: str(tool.name))
def test_every_tool_is_listed_as_all_hosts_can_read_it(tool: Tool) -> None:
    listing = tool.listing()
    assert 0 < len(listing["description"].encode()) < 2048
    assert listing["title"]
    assert set(listing["annotations"]) == {
        "title",
        "readOnlyHint",
        "destructiveHint",
        "idempotentHint",
        "openWorldHint",
    }
    for kind in ("inputSchema", "outputSchema"):
        if kind not in listing:
            continue
        jsonschema.Draft202012Validator.check_schema(listing[kind])
        assert listing[kind]["type"] == "object"
        assert keywords_of(listing[kind]) <= PORTABLE
        assert "$ref" not in json.dumps(listing[kind])
    for name, argument in listing["inputSchema"]["properties"].items():
        described = argument.get("anyOf", [argument])[0]
        assert described.get("description") or "penalty" in name, f"{tool.name}.{name} has no description"


def test_names_of_tools_are_unique_and_fit_every_client() -> None:
    names = [tool.name for tool in TOOLS]
    assert len(set(names)) == len(names)
    assert all(name.isascii() and name.replace("_", "").isalnum() and len(name) <= 64 for name in names)


@pytest.mark.parametrize(
    ("arguments", "fits"),
    [
        ({"text": "x"}, True),
        ({"text": "x", "seed": 5, "parts": [{"type": "inner", "size": 9}, {"type": "other", "name": "n"}]}, True),
        ({"text": ""}, False),
        ({"text": "x", "parts": [{"type": "inner", "size": 10}]}, False),
        ({"text": "x", "more": 1}, False),
        ({"text": "x", "mode": "c"}, False),
    ],
)
def test_schema_and_validation_agree(arguments: dict[str, Any], fits: bool) -> None:
    assert jsonschema.Draft202012Validator(ARGUMENTS_SCHEMA).is_valid(arguments) == fits
    if fits:
        validated(arguments, Arguments)
    else:
        error_of(arguments)


# The brief schema


class Outlined(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Arguments of which the brief schema shows little."""

    given: Annotated[Inner | Other, Meta(description="A part.")]
    kinds: Annotated[list[Other], Meta(description="Parts."), schema.OUTLINE] = []
    one: Annotated[Literal["none"] | Inner | None, Meta(description="One, or none."), schema.OUTLINE] = None
    word: Annotated[str, Meta(min_length=1, max_length=200, description="A word.")] = "x"
    share: Annotated[float, Meta(gt=0, le=1)] = 0.5
    count: Annotated[int, Meta(gt=0, le=2**53 - 1)] = 1
    loud: bool = False


BRIEF = schema.of_arguments(Outlined, brief=True)


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        (
            "given",
            {
                "description": "A part.",
                "type": "object",
                "properties": {
                    "type": {"type": "string", "enum": ["inner", "other"]},
                    "size": {"type": "integer", "minimum": 1, "maximum": 9},
                    "name": {"type": "string"},
                },
                "required": ["type"],
            },
        ),
        ("kinds", {"description": "Parts.", "type": "array", "items": {"type": "object"}}),
        ("one", {"anyOf": [{"type": "string", "enum": ["none"], "description": "One, or none."}, {"type": "object"}]}),
        ("word", {"description": "A word.", "type": "string", "default": "x"}),
        ("share", {"type": "number", "minimum": 0, "maximum": 1, "default": 0.5}),
        ("count", {"type": "integer", "minimum": 1, "default": 1}),
        ("loud", {"type": "boolean"}),
    ],
)
def test_brief_schema_leaves_out_what_no_model_needs(argument: str, shown: dict[str, Any]) -> None:
    assert BRIEF["properties"][argument] == shown


def test_complete_schema_of_an_outlined_argument_lists_the_members() -> None:
    complete = schema.of_arguments(Outlined)["properties"]
    assert set(complete["kinds"]["items"]["properties"]) == {"type", "name"}
    assert complete["word"]["description"] == "A word. At most 200 characters."
    assert "outline" not in json.dumps(complete)


@pytest.mark.parametrize("brief", [False, True])
@pytest.mark.parametrize(
    "arguments",
    [
        {"given": {"type": "inner", "size": 9}},
        {"given": {"type": "other", "name": ""}, "kinds": [{"type": "other", "name": "n"}], "one": "none"},
        {"given": {"type": "inner", "size": 1}, "one": {"type": "inner", "size": 1}, "word": "x" * 200, "share": 1},
    ],
)
def test_both_schemas_allow_what_is_valid(arguments: dict[str, Any], brief: bool) -> None:
    validated(arguments, Outlined)
    jsonschema.Draft202012Validator(schema.of_arguments(Outlined, brief=brief)).validate(arguments)


# Results


class Result(msgspec.Struct):
    """A result with what results have."""

    text: str
    figure: float | None
    parts: list[Inner]


def test_output_schema_fits_what_is_sent() -> None:
    validator = jsonschema.Draft202012Validator(schema.of_result(Result))
    for figure in (1.5, None, float("nan")):
        validator.validate(json.loads(encode(Result("x", figure, [Inner(1)]))))


def test_tool_without_a_text_of_its_own_shows_its_result_as_json() -> None:
    tool = Tool("t", "T", "d", Arguments, lambda *_: None, Result)
    content = tool.content(Result("x", None, []))
    assert json.loads(content["content"][0]["text"]) == {"text": "x", "figure": None, "parts": []}
    assert json.loads(encode(content["structuredContent"])) == {"text": "x", "figure": None, "parts": []}
