"""The form of an answer: what is asked of the engine, what is answered, and what is refused before anything runs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from engine.interface import ResponseFormat, TokenLogprob
from handlers.tool_table import TOOLS
from mcp_protocol.jsonrpc import encode
from tests.unit.handlers.tool_client import Client, Json, user

OUTPUT_SCHEMAS: dict[str, Json] = {tool.name: tool.listing().get("outputSchema", {}) for tool in TOOLS}
PAIR: Json = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


def json_schema(schema: Any, **more: Any) -> Json:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, **more}}


def both_refuse(client: Client, arguments: Json, words: str) -> None:
    """Both chat tools answer with these words, and nothing was loaded or run."""
    for tool, what in (("chat_completion", {"messages": [user("Hi")]}), ("chat_completion_batch", BATCH)):
        text = client.error(tool, {**what, **arguments})
        assert text.startswith(words), text
    assert client.engine.n_loads == 0
    assert client.engine.batches == []


BATCH: Json = {"conversations": [[user("a")], [user("b")]]}


# The form of the answer


@pytest.mark.parametrize(
    ("asked", "seen"),
    [
        (None, None),
        ({"type": "text"}, None),
        ({"type": "json_object"}, ResponseFormat()),
        (json_schema({"enum": ["yes", "no"]}), ResponseFormat({"enum": ["yes", "no"]})),
        (json_schema({"type": "integer"}, strict=True, description="A count."), ResponseFormat({"type": "integer"})),
        (json_schema({}, strict=None), ResponseFormat({})),
    ],
)
def test_response_format_reaches_the_engine(client: Client, asked: Json | None, seen: ResponseFormat | None) -> None:
    client.chat(response_format=asked)
    client.result("chat_completion_batch", {**BATCH, "response_format": asked})
    assert [conversation.response_format for conversation in client.engine.conversations] == [seen] * 3


def test_objects_get_no_properties_but_those_listed(client: Client) -> None:
    client.chat(response_format=json_schema(PAIR))
    (conversation,) = client.engine.conversations
    assert conversation.response_format == ResponseFormat({**PAIR, "additionalProperties": False})


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("json", "arguments.response_format: expected object"),
        ({}, "arguments.response_format: object missing required field type"),
        ({"type": "regex", "regex": "a"}, "arguments.response_format.type: invalid value 'regex'"),
        ({"type": "grammar"}, "arguments.response_format.type: invalid value 'grammar'"),
        ({"type": "structural_tag"}, "arguments.response_format.type: invalid value 'structural_tag'"),
        ({"type": "json_object", "json_schema": {}}, "arguments.response_format: object contains unknown field"),
        ({"type": "json_schema"}, "arguments.response_format: object missing required field json_schema"),
        (
            {"type": "json_schema", "json_schema": {"name": "x"}},
            "arguments.response_format.json_schema: object missing",
        ),
        (json_schema("{"), "arguments.response_format.json_schema.schema: expected object, got str"),
        (json_schema(True), "arguments.response_format.json_schema.schema: expected object, got bool"),
        (json_schema({}, regex="a"), "arguments.response_format.json_schema: object contains unknown field regex"),
        (json_schema({}, name=""), "arguments.response_format.json_schema.name: expected str of length >= 1"),
        (json_schema({}, name="x" * 65), "arguments.response_format.json_schema.name: expected str of length <= 64"),
        (json_schema({"$ref": "http://127.0.0.1/"}), "arguments.response_format.json_schema.schema: the schema refers"),
    ],
)
def test_wrong_response_format_is_refused_by_its_path(client: Client, asked: Any, words: str) -> None:
    both_refuse(client, {"response_format": asked}, words)


@pytest.mark.parametrize("asked", [{"type": "json_object"}, json_schema(PAIR)])
@pytest.mark.parametrize("other", [{"ignore_eos": True}, {"min_tokens": 1}, {"stop": "}"}, {"stop": ["x"]}])
def test_sampling_that_would_break_the_json_is_refused(client: Client, asked: Json, other: Json) -> None:
    (name,) = other
    both_refuse(client, {"response_format": asked, **other}, f"arguments.{name}: does not go with response_format")


def test_free_text_goes_with_all_sampling(client: Client) -> None:
    client.chat(response_format={"type": "text"}, ignore_eos=True, min_tokens=2, stop="x")
    (conversation,) = client.engine.conversations
    assert conversation.response_format is None
    sampling = conversation.sampling
    assert (sampling.ignore_eos, sampling.min_tokens, sampling.stop) == (True, 2, ("x",))


# Log-probabilities


@pytest.mark.parametrize(
    ("arguments", "seen"),
    [
        ({}, None),
        ({"logprobs": False}, None),
        ({"logprobs": True}, 0),
        ({"logprobs": True, "top_logprobs": None}, 0),
        ({"logprobs": True, "top_logprobs": 0}, 0),
        ({"logprobs": True, "top_logprobs": 20}, 20),
    ],
)
def test_logprobs_are_asked_of_the_engine(client: Client, arguments: Json, seen: int | None) -> None:
    client.chat(**arguments)
    client.result("chat_completion_batch", {**BATCH, **arguments})
    assert [conversation.sampling.logprobs for conversation in client.engine.conversations] == [seen] * 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"logprobs": 1}, "arguments.logprobs: expected bool, got int"),
        ({"logprobs": True, "top_logprobs": 21}, "arguments.top_logprobs: expected int <= 20"),
        ({"logprobs": True, "top_logprobs": -1}, "arguments.top_logprobs: expected int >= 0"),
        ({"top_logprobs": 3}, "arguments.top_logprobs: needs logprobs to be true"),
        ({"logprobs": False, "top_logprobs": 0}, "arguments.top_logprobs: needs logprobs to be true"),
        ({"prompt_logprobs": 1}, "arguments.prompt_logprobs: there is no such argument."),
    ],
)
def test_wrong_logprobs_are_refused(client: Client, arguments: Json, words: str) -> None:
    both_refuse(client, arguments, words)


def test_logprobs_come_in_openais_shape_as_strict_json(client: Client) -> None:
    entries = [
        TokenLogprob("é", -0.123456789, (TokenLogprob("é", -0.123456789), TokenLogprob("b", -math.inf))),
        TokenLogprob("", -math.inf, (TokenLogprob("c", 0.0),)),
    ]
    for _ in range(3):
        client.engine.enqueue("é", logprobs=entries)
    expected = {
        "content": [
            {
                "token": "é",
                "logprob": -0.123457,
                "bytes": [195, 169],
                "top_logprobs": [{"token": "é", "logprob": -0.123457, "bytes": [195, 169]}],
            },
            {
                "token": "",
                "logprob": None,
                "bytes": [],
                "top_logprobs": [{"token": "c", "logprob": 0.0, "bytes": [99]}],
            },
        ]
    }
    chat = json.loads(encode(client.run("chat_completion", {"messages": [user("Hi")]})["structuredContent"]))
    batch = json.loads(encode(client.run("chat_completion_batch", BATCH)["structuredContent"]))
    assert [chat["logprobs"], *(item["logprobs"] for item in batch["results"])] == [expected] * 3
    jsonschema.Draft202012Validator(OUTPUT_SCHEMAS["chat_completion"]).validate(chat)
    jsonschema.Draft202012Validator(OUTPUT_SCHEMAS["chat_completion_batch"]).validate(batch)


# Adapters


def test_adapter_of_the_settings_reaches_the_engine(make_client: Callable[..., Client]) -> None:
    client = make_client(VLLM_LORA_MODULES="sql=/adapters/sql,tone=/adapters/tone")
    client.chat(lora="tone")
    client.chat()
    client.result("chat_completion_batch", {**BATCH, "lora": "sql"})
    assert [conversation.lora for conversation in client.engine.conversations] == ["tone", None, "sql", "sql"]
    assert client.result("model_info").lora_modules == ["sql", "tone"]


def test_unknown_adapter_is_refused_with_those_there_are(make_client: Callable[..., Client]) -> None:
    client = make_client(VLLM_LORA_MODULES="sql=/adapters/sql,tone=/adapters/tone")
    for name in ("SQL", "", "/adapters/sql"):
        both_refuse(client, {"lora": name}, f"arguments.lora: there is no adapter {name!r}; there are sql, tone")


def test_without_adapters_the_setting_is_named(client: Client) -> None:
    both_refuse(
        client, {"lora": "x"}, "arguments.lora: there is no adapter 'x'; the setting VLLM_LORA_MODULES lists none"
    )
    assert client.result("model_info").lora_modules == []


def test_turn_of_a_session_keeps_the_form_of_its_call_alone(make_client: Callable[..., Client]) -> None:
    client = make_client(VLLM_LORA_MODULES="sql=/adapters/sql")
    client.chat(session_id="s", lora="sql", response_format={"type": "json_object"}, logprobs=True)
    client.chat(session_id="s")
    first, second = client.engine.conversations
    assert (first.lora, first.response_format, first.sampling.logprobs) == ("sql", ResponseFormat(), 0)
    assert (second.lora, second.response_format, second.sampling.logprobs) == (None, None, None)
    assert len(second.messages) == 3
