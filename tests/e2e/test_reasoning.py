"""Reasoning through the real server, the real engine and vLLM's parsers, with models whose outputs are known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.scripted_model import scripted_model
from tests.e2e.server_process import ServerProcess

Json = dict[str, Any]
PARAMETERS: Json = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER: Json = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}
SCRIPTS = {
    "sum": "<think>Two and two.</think>Four, I would say.",
    "sum at once": "Four at once!",
    "without an opening": "Three and three.</think>Six.",
    "without an end": "<think>I cannot stop thinking of it.",
    "weather with get_weather": "<think>I look it up.</think>[get_weather(city='Paris')]",
    "broken with get_weather": "<think>I am confused.</think>[get_weather(city=",
    "get_weather Paris: 22": "<think>That is warm.</think>It is 22 degrees there.",
}


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A model that thinks as Qwen 3 does and calls tools as the Python-like models do."""
    environment = {
        "VLLM_MODEL_NAME": str(scripted_model(SCRIPTS)),
        "VLLM_CPU_KVCACHE_SPACE": "0.125",
        "VLLM_TOOL_PARSER": "pythonic",
        "VLLM_REASONING_PARSER": "qwen3",
    }
    with ServerProcess(environment) as process:
        process.initialize()
        yield process


def asked(text: str) -> list[Json]:
    return [{"role": "user", "content": text}]


def chat(server: ServerProcess, messages: list[Json], **arguments: Any) -> Json:
    return server.result("chat_completion", {"messages": messages, "temperature": 0, **arguments})


@pytest.mark.parametrize(
    ("script", "reasoning", "text"),
    [
        ("sum", "Two and two.", "Four, I would say."),
        ("without an opening", "Three and three.", "Six."),
        ("without an end", "I cannot stop thinking of it.", ""),
    ],
)
def test_reasoning_is_told_beside_the_answer(server: ServerProcess, script: str, reasoning: str, text: str) -> None:
    answer = chat(server, asked(script))
    assert (answer["reasoning"], answer["text"]) == (reasoning, text)
    assert answer["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("thinking", "reasoning", "text"),
    [(False, None, "Four at once!"), (True, "Two and two.", "Four, I would say.")],
)
def test_thinking_is_the_callers_choice(
    server: ServerProcess, thinking: bool, reasoning: str | None, text: str
) -> None:
    answer = chat(server, asked("sum"), enable_thinking=thinking)
    assert (answer["reasoning"], answer["text"]) == (reasoning, text)


def test_progress_shows_the_answer_alone(server: ServerProcess) -> None:
    arguments = {"messages": asked("sum"), "temperature": 0}
    server.send_call("chat_completion", arguments, meta={"progressToken": 0})
    pieces = []
    while "method" in (message := server.read_message()):
        pieces.append(message["params"])
    assert "".join(piece.get("message", "") for piece in pieces) == "Four, I would say."
    assert pieces[-1]["progress"] >= message["result"]["structuredContent"]["usage"]["completion_tokens"] - 1


def test_a_session_remembers_the_answer_without_the_reasoning(server: ServerProcess) -> None:
    chat(server, asked("sum"), session_id="s")
    shown = server.result("get_session", {"session_id": "s"})["messages"]
    assert [message["text"] for message in shown] == ["sum", "Four, I would say."]


def test_a_batch_shares_whether_it_thinks(server: ServerProcess) -> None:
    arguments = {"conversations": [asked("sum")] * 2, "enable_thinking": False, "temperature": 0}
    results = server.result("chat_completion_batch", arguments)["results"]
    assert [(item["text"], item["reasoning"]) for item in results] == [("Four at once!", None)] * 2


def test_calls_are_read_by_another_parser_too(server: ServerProcess) -> None:
    first = chat(server, asked("weather"), tools=[WEATHER])
    (call,) = first["tool_calls"]
    assert call["function"] == {"name": "get_weather", "arguments": '{"city": "Paris"}'}
    assert first["reasoning"] == "I look it up."
    messages = [*asked("weather"), {"role": "assistant", "tool_calls": first["tool_calls"]}]
    result = {"role": "tool", "tool_call_id": call["id"], "content": [{"type": "text", "text": "22"}]}
    assert chat(server, [*messages, result], tools=[WEATHER])["text"] == "It is 22 degrees there."


def test_what_another_parser_cannot_read_is_text(server: ServerProcess) -> None:
    answer = chat(server, asked("broken"), tools=[WEATHER])
    assert (answer["text"], answer["tool_calls"]) == ("[get_weather(city=", None)


@pytest.mark.parametrize(
    ("variable", "name", "words"),
    [
        ("VLLM_TOOL_PARSER", "hermess", "VLLM_TOOL_PARSER to one of "),
        ("VLLM_REASONING_PARSER", "none", "VLLM_REASONING_PARSER to one of "),
        ("VLLM_REASONING_PARSER", "deepseek_r1", "VLLM_REASONING_PARSER does not fit the model"),
    ],
)
def test_a_parser_that_cannot_be_used_is_told_at_the_load(
    model: dict[str, str], variable: str, name: str, words: str
) -> None:
    with ServerProcess({**model, variable: name}) as server:
        result = server.call("chat_completion", {"messages": asked("Hello"), "max_tokens": 1})["result"]
        assert result["isError"]
        text = result["content"][0]["text"]
        assert text.startswith("Failed to initialize vLLM: ")
        assert words in text
        assert variable in text
