"""Tools, calls and results of tools, as callers write them and get them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from engine.interface import ToolCall
from tests.unit.handlers.tool_client import Client, Json, user

CALL = ToolCall("call_1", "get_weather", '{"city": "Paris"}')
SHOWN_CALL: Json = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
}
CALLS: Json = {"role": "assistant", "content": None, "tool_calls": [SHOWN_CALL]}
PARAMETERS: Json = {"type": "object", "properties": {"city": {"type": "string"}}}


def tool(name: str = "get_weather", **more: Any) -> Json:
    return {"type": "function", "function": {"name": name, **more}}


def result(call_id: str = "call_1", content: Any = "22") -> Json:
    return {"role": "tool", "tool_call_id": call_id, "content": content}


@pytest.fixture
def client(make_client: Callable[..., Client]) -> Client:
    """A client whose model has a parser for its calls."""
    return make_client(VLLM_TOOL_PARSER="hermes")


def test_tools_reach_the_engine_as_they_were_written(client: Client) -> None:
    tools = [tool(description="Tells the weather.", parameters=PARAMETERS, strict=True), tool("get_time")]
    client.chat(tools=tools, enable_thinking=False)
    (conversation,) = client.engine.conversations
    assert list(conversation.tools) == tools
    assert (conversation.tool_choice, conversation.enable_thinking) == ("auto", False)


def test_without_any_of_it_the_engine_is_asked_for_nothing_of_it(client: Client) -> None:
    client.chat()
    (conversation,) = client.engine.conversations
    assert (conversation.tools, conversation.tool_choice, conversation.enable_thinking) == ((), "auto", None)


@pytest.mark.parametrize(
    ("choice", "seen"),
    [
        (None, "auto"),
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ({"type": "function", "function": {"name": "get_weather"}}, "get_weather"),
    ],
)
def test_choice_reaches_the_engine(client: Client, choice: Any, seen: str) -> None:
    client.chat(tools=[tool()], tool_choice=choice)
    assert client.engine.conversations[0].tool_choice == seen


def test_calls_are_the_text_block_where_there_is_no_text(client: Client) -> None:
    client.engine.enqueue("", tool_calls=[CALL], reasoning="I look it up.")
    answer = client.run("chat_completion", {"messages": [user("Weather?")], "tools": [tool()]})
    chat = answer["structuredContent"]
    assert (chat.text, chat.finish_reason, chat.reasoning) == ("", "tool_calls", "I look it up.")
    assert chat.tool_calls == [SHOWN_CALL]
    assert json.loads(answer["content"][0]["text"]) == [SHOWN_CALL]


def test_text_beside_calls_is_the_text_block(client: Client) -> None:
    client.engine.enqueue("One moment.", tool_calls=[CALL])
    answer = client.run("chat_completion", {"messages": [user("Weather?")], "tools": [tool()]})
    assert answer["content"] == [{"type": "text", "text": "One moment."}]


def test_calls_and_results_reach_the_engine(client: Client) -> None:
    client.result("chat_completion", {"messages": [user("Weather?"), CALLS, result()], "tools": [tool()]})
    _, calls, answered = client.engine.conversations[0].messages
    assert (calls.text, calls.tool_calls) == ("", (CALL,))
    assert (answered.role, answered.tool_call_id, answered.text) == ("tool", "call_1", "22")


def test_session_remembers_the_calls_that_a_result_answers(client: Client) -> None:
    client.engine.enqueue("", tool_calls=[CALL])
    client.chat("Weather?", tools=[tool()], session_id="s")
    client.engine.enqueue("22 degrees")
    chat = client.result("chat_completion", {"messages": [result()], "tools": [tool()], "session_id": "s"})
    assert (chat.text, chat.session_messages) == ("22 degrees", 4)
    roles = [message.role for message in client.engine.conversations[1].messages]
    assert roles == ["user", "assistant", "tool"]
    shown = client.result("get_session", {"session_id": "s"}).messages
    assert shown[1].tool_calls == [SHOWN_CALL]
    assert shown[2].tool_call_id == "call_1"


def test_batch_shares_tools_and_tells_calls_one_by_one(client: Client) -> None:
    client.engine.enqueue("", tool_calls=[CALL], reasoning="Hm.")
    arguments = {"conversations": [[user("a")], [result()], [user("b")]], "tools": [tool()], "enable_thinking": True}
    called, refused, answered = client.result("chat_completion_batch", arguments).results
    assert (called.tool_calls, called.reasoning, called.finish_reason) == ([SHOWN_CALL], "Hm.", "tool_calls")
    assert refused.error.startswith("arguments.conversations[1]: no open tool call has the tool_call_id 'call_1'.")
    assert (answered.text, answered.tool_calls) == ("reply", None)
    assert {len(conversation.tools) for conversation in client.engine.conversations} == {1}


def with_call(**changed: Any) -> Json:
    return {**CALLS, "tool_calls": [{**SHOWN_CALL, **changed}]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"tools": [], "tool_choice": "required"}, "arguments.tool_choice: required needs arguments.tools"),
        ({"tools": [tool(f"f{n}") for n in range(129)]}, "arguments.tools: expected array of length <= 128"),
        ({"tools": [{"type": "retrieval"}]}, "arguments.tools[0].type: invalid value 'retrieval'"),
        ({"tools": [{"type": "function"}]}, "arguments.tools[0]: object missing required field function"),
        ({"tools": [tool("a b")]}, "arguments.tools[0].function.name: expected only letters"),
        ({"tools": [tool("a\n")]}, "arguments.tools[0].function.name: expected only letters"),
        ({"tools": [tool("")]}, "arguments.tools[0].function.name: expected str of length >= 1"),
        ({"tools": [tool("x" * 65)]}, "arguments.tools[0].function.name: expected str of length <= 64"),
        ({"tools": [tool("none")]}, "arguments.tools[0].function.name: none is a value of tool_choice"),
        (
            {"tools": [tool(), tool()]},
            "arguments.tools[1].function.name: there are two tools with the name get_weather",
        ),
        ({"tools": [tool(color="red")]}, "arguments.tools[0].function: object contains unknown field color"),
        ({"tools": [tool(parameters=[])]}, "arguments.tools[0].function.parameters: expected object | null"),
        ({"tools": [tool(parameters={"type": "array"})]}, "arguments.tools[0].function.parameters: the parameters of"),
        ({"tools": [tool()], "tool_choice": "any"}, "arguments.tool_choice: invalid enum value 'any'"),
        (
            {"tools": [tool()], "tool_choice": {"type": "function", "function": {"name": "x"}}},
            "arguments.tool_choice: there is no tool 'x' among arguments.tools.",
        ),
        ({"tool_choice": "required"}, "arguments.tool_choice: required needs arguments.tools."),
        (
            {"tools": [tool()], "tool_choice": "required", "response_format": {"type": "json_object"}},
            "arguments.response_format: does not go with a forced tool_choice",
        ),
        (
            {"tools": [tool(parameters={"not": {}})], "tool_choice": "required"},
            "arguments.tools: a call cannot be forced with these parameters: ",
        ),
        ({"enable_thinking": 1}, "arguments.enable_thinking: expected bool | null, got int"),
        ({"chat_template_kwargs": {"enable_thinking": True}}, "arguments.chat_template_kwargs: there is no such"),
        ({"messages": [result()]}, "arguments.messages: no open tool call has the tool_call_id 'call_1'."),
        (
            {"messages": [user("x"), CALLS, user("y"), result()]},
            "arguments.messages: no open tool call has the tool_call_id 'call_1'",
        ),
        (
            {"messages": [user("x"), CALLS, result(), result()]},
            "arguments.messages: no open tool call has the tool_call_id 'call_1'",
        ),
        (
            {"messages": [user("x"), CALLS, result("call_2")]},
            "arguments.messages: no open tool call has the tool_call_id 'call_2'",
        ),
        (
            {"messages": [user("x"), CALLS]},
            "arguments.messages: the last message must have the role user or tool, not assistant.",
        ),
        (
            {"messages": [user("x"), {"role": "tool", "content": "22"}]},
            "arguments.messages[1].tool_call_id: a tool message",
        ),
        ({"messages": [{**user("x"), "tool_call_id": "a"}]}, "arguments.messages[0].tool_call_id: only a tool message"),
        (
            {"messages": [{**user("x"), "tool_calls": [SHOWN_CALL]}]},
            "arguments.messages[0].tool_calls: only an assistant message",
        ),
        ({"messages": [user("x"), {"role": "assistant"}, user("y")]}, "arguments.messages[1].content: expected str"),
        ({"messages": [user("x"), CALLS, result(content=None)]}, "arguments.messages[2].content: expected str | array"),
        (
            {"messages": [user("x"), with_call(function={"name": "f", "arguments": "[1]"}), result()]},
            "arguments.messages[1].tool_calls[0].function.arguments: expected a JSON object in a string",
        ),
        (
            {"messages": [user("x"), with_call(function={"name": "f g", "arguments": "{}"}), result()]},
            "arguments.messages[1].tool_calls[0].function.name: expected only letters",
        ),
        (
            {"messages": [user("x"), {**CALLS, "tool_calls": [SHOWN_CALL] * 2}, result()]},
            "arguments.messages[1].tool_calls: two calls have the same id.",
        ),
        (
            {"messages": [user("x"), with_call(id=""), result()]},
            "arguments.messages[1].tool_calls[0].id: expected str of",
        ),
    ],
)
def test_wrong_argument_is_named_by_its_path_and_nothing_is_loaded(client: Client, arguments: Json, words: str) -> None:
    assert client.error("chat_completion", {"messages": [user("Hi")], **arguments}).startswith(words)
    assert client.engine.n_loads == 0


def test_result_in_an_unknown_session_is_refused(client: Client) -> None:
    text = client.error("chat_completion", {"messages": [result()], "session_id": "s"})
    assert "no open tool call has the tool_call_id" in text
    assert len(client.services.sessions) == 0


@pytest.mark.parametrize("choice", ["required", "none", {"type": "function", "function": {"name": "get_weather"}}])
def test_without_a_parser_only_a_free_choice_is_refused(make_client: Callable[..., Client], choice: Any) -> None:
    client = make_client()
    assert "Set VLLM_TOOL_PARSER" in client.error("chat_completion", {"messages": [user("Hi")], "tools": [tool()]})
    assert client.chat(tools=[tool()], tool_choice=choice).text == "reply"
