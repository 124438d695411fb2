"""The tools over a remote engine and a scripted server: the same tools, sessions and rules."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.remote.engine import RemoteEngine
from handlers.services import Services
from settings import read
from tests.scripted_openai import (
    MODEL,
    ScriptedOpenAI,
    answers,
    echoes_key,
    floods,
    hangs_up,
    piece,
    refuses,
    streams,
    usage,
)
from tests.unit.handlers.tool_client import Client, make_image, user

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.fixture
def server() -> Iterator[ScriptedOpenAI]:
    with ScriptedOpenAI() as running:
        yield running


@pytest.fixture
def remote(server: ScriptedOpenAI) -> Iterator[Client]:
    """Tools whose engine is the one that the settings pick."""
    environment = {"VLLM_BASE_URL": server.url, "VLLM_REMOTE_API_KEY": "sk-secret-key"}
    client = Client(environment)
    client.services.engine = engine = Services(read(environment)).engine
    assert isinstance(engine, RemoteEngine)
    yield client
    engine.close()


def likely(**logprobs: float) -> dict[str, Any]:
    top = [{"token": token, "logprob": logprob} for token, logprob in logprobs.items()]
    return piece("stop", [{**top[0], "top_logprobs": top}], content=top[0]["token"])


def test_session_goes_on_and_a_failed_turn_is_not_stored(server: ScriptedOpenAI, remote: Client) -> None:
    assert remote.chat("My name is Ada.", session_id="s").text == "My name is Ada."
    failures = (
        *(refuses(status, "no", Retry_After="0") for status in (401, 403, 404, 429, 500)),
        *(hangs_up, floods, echoes_key(400), streams(piece(content="half")), streams("{no json")),
        *(answers(b"{}"), answers(b"<html>", Content_Type="text/html"), answers(b"", 302, Location="http://x.example")),
    )
    for route in failures:
        server.script(route)
        remote.error("chat_completion", {"messages": [user("What is my name?")], "session_id": "s"})
        assert remote.result("get_session", {"session_id": "s"}).total_messages == 2
    server.script(server.honest)
    result = remote.chat("What is my name?", session_id="s")
    assert (result.session_messages, result.model) == (4, MODEL)
    assert [message["content"] for message in server.chats()[-1]["messages"]] == [
        "My name is Ada.",
        "My name is Ada.",
        "What is my name?",
    ]


def test_long_session_drops_its_oldest_turns(server: ScriptedOpenAI, remote: Client) -> None:
    remote.chat("one", session_id="s")
    too_long = "maximum context length is 20 tokens. However, your prompt contains 30 input tokens"
    server.script(refuses(400, too_long), server.honest)
    result = remote.chat("two", session_id="s")
    assert (result.truncated_messages, result.session_messages) == (2, 2)


def test_model_that_may_call_needs_no_parser_here(server: ScriptedOpenAI, remote: Client) -> None:
    call = {"index": 0, "id": "c", "function": {"name": "weather", "arguments": "{}"}}
    server.script(streams(piece(tool_calls=[call]), piece("tool_calls"), usage(), "[DONE]"))
    result = remote.chat("How warm?", tools=[WEATHER])
    assert (result.finish_reason, result.tool_calls[0]["function"]["name"]) == ("tool_calls", "weather")
    server.script(streams(piece(content='[{"name": "weather", "arguments": {}}]'), piece("stop")))
    result = remote.chat("How warm?", tools=[WEATHER], tool_choice="required")
    assert (result.text, result.tool_calls[0]["function"]["arguments"]) == ("", "{}")


def test_log_probabilities_are_the_servers(server: ScriptedOpenAI, remote: Client) -> None:
    server.script(streams(likely(yes=-0.1, no=-9999.0), usage()))
    (entry,) = remote.chat("?", logprobs=True, top_logprobs=2).logprobs.content
    assert (entry.token, entry.logprob) == ("yes", -0.1)
    assert [other.token for other in entry.top_logprobs] == ["yes"], "what cannot be has no figure in JSON"


def test_relevance_is_a_probability_or_an_error(server: ScriptedOpenAI, remote: Client, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(make_image("red"))
    arguments = {"image_path": str(path), "query": "red circle"}
    server.script(streams(likely(Yes=-1.0, no=-1.0, y=-9999.0), usage()))
    result = remote.result("check_image_relevance", arguments)
    assert (result.probability, result.relevant) == (0.5, True)
    server.script(streams(likely(Well=-0.1), usage()))
    assert "no probability" in remote.error("check_image_relevance", arguments)


def test_memory_tools_say_where_the_model_is(server: ScriptedOpenAI, remote: Client) -> None:
    assert f"the model runs on the server at {server.url}" in remote.error("offload_gpu")
    before = remote.result("list_available_models")
    assert (before.total_count, server.seen) == (0, []), "nobody is asked before a call needs the model"
    remote.chat("Hi")
    status = remote.result("get_gpu_status")
    assert (status.model_location, status.backend, status.idle_time) == ("remote", "remote", None)
    assert remote.services.idle_due_s() is None
    assert [model.name for model in remote.result("list_available_models").models.configured] == [MODEL]
    assert "No model is loaded here" in remote.result("release_gpu").message
    assert remote.result("model_info").device == "remote"


def test_key_is_in_no_result(remote: Client) -> None:
    for tool in ("model_info", "get_model_status", "get_gpu_status", "list_available_models"):
        assert "sk-secret-key" not in str(remote.run(tool))
