"""Prompts and completion."""

from __future__ import annotations

from typing import Any

import pytest

from tests.mcp_results import MODERN, Json, check_result
from tests.unit.mcp_protocol.host import Host, error_of
from tests.unit.mcp_protocol.resources.requests import ask, result
from tests.unit.mcp_protocol.resources.shelf import NOTE, Shelf, prompt_of


def test_prompts_are_listed_with_their_arguments(host: Host) -> None:
    greet, plain = result(host, MODERN, "prompts/list", {})["prompts"]
    assert greet["name"] == "greet"
    assert greet["arguments"][0] == {"name": "name", "description": "Whom.", "required": True}
    assert plain["arguments"] == []


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("greet", {"name": "Ada"}, "Say hello to Ada kindly."),
        ("greet", {"name": " Ada\n", "how": ""}, "Say hello to Ada kindly."),
        ("greet", {"name": "Ada", "how": "loudly"}, "Say hello to Ada loudly."),
        ("plain", None, "Hello."),
        ("plain", {}, "Hello."),
    ],
)
def test_prompt_is_filled_in(host: Host, name: str, arguments: Any, text: str) -> None:
    answer = ask(host, "2025-11-25", "prompts/get", {"name": name, "arguments": arguments})
    check_result("prompts/get", "2025-11-25", answer)
    assert prompt_of(answer) == text


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"name": "greet"}, "missing arguments: name"),
        ({"name": "greet", "arguments": {"name": "  "}}, "missing arguments: name"),
        ({"name": "greet", "arguments": {"nam": "x", "name": "y"}}, "unknown arguments: nam; known: how, name"),
        ({"name": "plain", "arguments": {"a": "b"}}, "unknown arguments: a"),
        ({"name": "greet", "arguments": {"x" * 1000: "x"}}, "x" * 60 + "…"),
        ({"name": "greet", "arguments": {"name": 5}}, "arguments.name must be a string"),
        ({"name": "greet", "arguments": {"name": None}}, "arguments.name must be a string"),
        ({"name": "greet", "arguments": {"name": "x" * 20_001}}, "arguments.name is longer than 20000 characters"),
        ({"name": "greet", "arguments": {"name": "Nobody"}}, "arguments.name must be somebody"),
        ({"name": "greet", "arguments": ["Ada"]}, "arguments must be an object"),
        ({"name": "greet", "arguments": "Ada"}, "arguments must be an object"),
        ({"name": "none"}, "Unknown prompt: none"),
        ({"name": "x" * 10_000}, "Unknown prompt: x"),
        ({}, "a prompt's name must be a string"),
        ({"name": ["greet"]}, "a prompt's name must be a string"),
    ],
)
@pytest.mark.parametrize("version", ["2025-11-25", MODERN])
def test_wrong_arguments_of_a_prompt_are_named(host: Host, params: Json, words: str, version: str) -> None:
    code, message = error_of(ask(host, version, "prompts/get", params))
    assert code == -32602
    assert words in message
    assert len(message) < 400


def completion(host: Host, ref: Json, name: str, value: str) -> Json:
    """A completion that succeeds."""
    params = {"ref": ref, "argument": {"name": name, "value": value}, "context": {"arguments": {"other": "x"}}}
    found: Json = result(host, MODERN, "completion/complete", params)["completion"]
    return found


def test_variable_of_a_template_is_completed(host: Host) -> None:
    ref = {"type": "ref/resource", "uri": "test://texts/{name}"}
    assert completion(host, ref, "name", "t") == {"values": ["two"], "total": 1, "hasMore": False}
    assert completion(host, ref, "name", "none") == {"values": [], "total": 0, "hasMore": False}


def test_argument_of_a_prompt_is_completed(host: Host) -> None:
    ref = {"type": "ref/prompt", "name": "greet"}
    assert completion(host, ref, "name", "")["values"] == ["Ada", "Bob"]
    assert completion(host, ref, "how", "x") == {"values": [], "total": 0, "hasMore": False}


@pytest.mark.parametrize("n_texts", [99, 100, 101, 1000])
def test_at_most_100_values_are_given(host: Host, shelf: Shelf, n_texts: int) -> None:
    shelf.texts = {str(number): "" for number in range(n_texts)}
    found = completion(host, {"type": "ref/resource", "uri": "test://texts/{name}"}, "name", "")
    assert len(found["values"]) == min(n_texts, 100)
    assert (found["total"], found["hasMore"]) == (n_texts, n_texts > 100)


@pytest.mark.parametrize(
    "ref",
    [
        {"type": "ref/prompt", "name": "none"},
        {"type": "ref/prompt"},
        {"type": "ref/prompt", "name": {}},
        {"type": "ref/resource", "uri": NOTE},
        {"type": "ref/resource", "uri": "test://texts/{other}"},
        {"type": "ref/resource"},
        {"type": "ref/tool", "name": "echo"},
        {"type": ["ref/prompt"]},
        {},
        None,
        "greet",
        [],
    ],
)
def test_unknown_reference_is_an_error(host: Host, ref: Any) -> None:
    params = {"ref": ref, "argument": {"name": "name", "value": ""}}
    assert error_of(host.request("completion/complete", params))[0] == -32602


@pytest.mark.parametrize(
    "argument",
    [
        {"name": "none", "value": ""},
        {"name": "name"},
        {"value": ""},
        {"name": 1, "value": ""},
        {"name": "name", "value": 1},
        None,
        [],
        "name",
    ],
)
def test_wrong_argument_of_a_completion_is_an_error(host: Host, argument: Any) -> None:
    params = {"ref": {"type": "ref/prompt", "name": "greet"}, "argument": argument}
    assert error_of(host.request("completion/complete", params))[0] == -32602
