"""All published schemas against the rules of those who take them: one tool that breaks a rule may cost a host all."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from handlers.apps.tools import APP_TOOLS
from handlers.tool_table import TOOLS
from mcp_protocol.tools.toolbox import Tool

Json = dict[str, Any]
INPUTS = {tool.name: tool.listing()["inputSchema"] for tool in TOOLS + APP_TOOLS}
OUTPUTS = {tool.name: tool.listing()["outputSchema"] for tool in TOOLS if tool.result is not None}
ALL = {**{f"{name} in": schema for name, schema in INPUTS.items()}, **{f"{k} out": v for k, v in OUTPUTS.items()}}
MAX_REPETITIONS = 2_000
"""llama.cpp's MAX_REPETITION_THRESHOLD (src/llama-grammar.cpp)."""
GRAMMAR_BYTES = 64_000
"""llama.cpp makes one grammar of all tools of a request; about 100 kB of schemas were seen to be too much (#25895)."""
GEMINI_KEYWORDS = {
    "type", "format", "title", "description", "nullable", "default", "items", "minItems", "maxItems", "enum",
    "properties", "required", "minProperties", "maxProperties", "minimum", "maximum", "minLength", "maxLength",
    "pattern", "anyOf",
}  # fmt: skip
"""The fields of Schema in Gemini's API. Clients leave out `additionalProperties`, which all SDKs' servers write."""


def nodes(schema: Json, at: str = "$") -> Iterator[tuple[str, Json]]:
    """All nodes of a schema with their places."""
    yield at, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{at}.{name}")
    if isinstance(schema.get("items"), dict):
        yield from nodes(schema["items"], f"{at}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        yield from nodes(schema["additionalProperties"], f"{at}.*")
    for number, inner in enumerate(schema.get("anyOf", [])):
        yield from nodes(inner, f"{at}|{number}")


@pytest.mark.parametrize("name", ALL)
def test_every_node_has_a_type_or_alternatives_that_have_one(name: str) -> None:
    """Gemini CLI leaves out a tool with a node of whose type it is not told."""
    for at, node in nodes(ALL[name]):
        assert ("type" in node) != ("anyOf" in node), at
        assert node.get("type", "") in {"", "object", "array", "string", "integer", "number", "boolean", "null"}, at


@pytest.mark.parametrize("name", INPUTS)
def test_gemini_knows_every_keyword(name: str) -> None:
    for at, node in nodes(INPUTS[name]):
        assert set(node) - {"additionalProperties"} <= GEMINI_KEYWORDS, at
        if "enum" in node:
            assert node["type"] == "string", at
            assert all(isinstance(value, str) and value for value in node["enum"]), at
        if node.get("type") == "array":
            assert "items" in node, at
        assert node.get("type") != "null", at
        assert set(node.get("required", [])) <= set(node.get("properties", {})), at


@pytest.mark.parametrize("name", INPUTS)
def test_vertex_ai_finds_nothing_beside_alternatives(name: str) -> None:
    for at, node in nodes(INPUTS[name]):
        assert "anyOf" not in node or set(node) == {"anyOf"}, at


def test_alternatives_are_described_in_the_first_of_them() -> None:
    known = INPUTS["analyze_single_image"]["properties"]["metadata"]
    assert known["anyOf"][0]["description"].startswith("Context, ")


@pytest.mark.parametrize("name", INPUTS)
def test_openai_takes_it_as_the_parameters_of_a_function(name: str) -> None:
    """Not its strict mode, which wants every property required and null where it is not."""
    schema = INPUTS[name]
    assert schema["type"] == "object"
    assert "properties" in schema
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", name)
    for at, node in nodes(schema):
        assert node.get("required", ["x"]), at
        assert "$ref" not in node, at
        assert node.get("type") != "array" or "items" in node, at


def repetitions(node: Json) -> int:
    """How many rules llama.cpp makes at most of one rule of this node: lengths that are nested are multiplied."""
    own = max([node[key] for key in ("minLength", "maxLength", "minItems", "maxItems") if key in node], default=1)
    below = [node["items"]] if "items" in node else []
    below += [*node.get("properties", {}).values(), *node.get("anyOf", [])]
    return max(own, 1) * max(map(repetitions, below), default=1)


@pytest.mark.parametrize("name", ALL)
def test_llama_cpp_can_make_a_grammar_of_it(name: str) -> None:
    """One schema that it cannot carry costs all tools of all servers."""
    assert repetitions(ALL[name]) < MAX_REPETITIONS
    for at, node in nodes(ALL[name]):
        assert "pattern" not in node, at  # it takes only ^...$ without look-around; none is needed
        for key in ("minimum", "maximum"):
            assert abs(node.get(key, 0)) < 2**63, at


def test_all_schemas_together_fit_one_grammar() -> None:
    shown = [{"name": name, "parameters": schema} for name, schema in INPUTS.items()]
    assert len(json.dumps(shown)) < GRAMMAR_BYTES


@pytest.mark.parametrize("name", INPUTS)
def test_claude_takes_it(name: str) -> None:
    assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", f"mcp__vllm__{name}")
    assert not {"anyOf", "oneOf", "allOf"} & set(INPUTS[name])
    for at, node in nodes(INPUTS[name]):
        for key in node.get("properties", {}):
            assert re.fullmatch(r"[a-zA-Z0-9_.-]{1,64}", key), at


@pytest.mark.parametrize("name", ALL)
def test_numbers_are_those_that_every_json_reader_keeps(name: str) -> None:
    for at, node in nodes(ALL[name]):
        for key in ("minimum", "maximum", "default"):
            value = node.get(key, 0)
            assert not isinstance(value, int) or abs(value) < 2**53, at


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: str(tool.name))
def test_optional_arguments_are_shown_without_null(tool: Tool) -> None:
    assert '"null"' not in json.dumps(INPUTS[tool.name])
