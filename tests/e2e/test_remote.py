"""The server in front of a real vLLM server: the same answers as with the engine in its own process."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from tests.e2e.images import as_data_url, asked, drawn, fresh_scene, image_part
from tests.e2e.model_server import ModelServer
from tests.e2e.server_process import Json, ServerProcess
from tests.scripted_openai import ScriptedOpenAI, goes_on
from tests.waiting import wait_until

WHAT = "What is in this image?"
GREEDY: Json = {"temperature": 0, "max_tokens": 40}
ENDLESS: Json = {"max_tokens": 6000, "min_tokens": 6000, "ignore_eos": True}
TEXTS = ("Hello", "My name is Marlowe.", "What is the capital of France?", "<image> <|im_end|> Hello")
IMAGES = (("blue", "circle", "red"), ("white", "triangle", "green"), ("black", "square", "yellow"))
SCHEMA: Json = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "green", "blue"]}, "sure": {"type": "boolean"}},
    "required": ["colour", "sure"],
}
WEATHER: Json = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}


def chat(server: ServerProcess, messages: list[Json] | str, **arguments: Any) -> Json:
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    return server.result("chat_completion", {"messages": messages, **GREEDY, **arguments})


def refusal(server: ServerProcess, tool: str, **arguments: Any) -> str:
    result = server.call(tool, arguments)["result"]
    assert result["isError"], result
    text: str = result["content"][0]["text"]
    return text


@pytest.mark.parametrize(
    "messages",
    [
        *([{"role": "user", "content": text}] for text in TEXTS),
        *(asked(WHAT, image_part(drawn(*scene))) for scene in IMAGES),
        asked("Which one is red?", image_part(drawn("blue", "circle", "red")), image_part(drawn("white", "square"))),
        asked(WHAT, image_part(drawn().resize((3, 200)))),
    ],
)
def test_same_answer_as_in_process(
    remote_server: ServerProcess, demo_server: ServerProcess, messages: list[Json]
) -> None:
    here, there = chat(demo_server, messages), chat(remote_server, messages)
    for name in ("text", "finish_reason"):
        assert there[name] == here[name]
    for name in ("prompt_tokens", "completion_tokens"):
        assert there["usage"][name] == here["usage"][name]
    assert (there["usage"]["image_tokens"] > 0) is (here["usage"]["image_tokens"] > 0)


def test_batch_gives_the_same_answers(remote_server: ServerProcess, demo_server: ServerProcess) -> None:
    conversations = [asked(WHAT, image_part(drawn(*scene))) for scene in IMAGES * 8]
    arguments = {"conversations": conversations, **GREEDY}
    there = remote_server.result("chat_completion_batch", arguments)["results"]
    here = demo_server.result("chat_completion_batch", arguments)["results"]
    assert [item["text"] for item in there] == [item["text"] for item in here]


def test_bad_conversation_does_not_fail_its_batch(remote_server: ServerProcess) -> None:
    good, too_long = ([{"role": "user", "content": text}] for text in ("Hello", "word " * 20_000))
    result = remote_server.result("chat_completion_batch", {"conversations": [good, too_long, good], **GREEDY})
    first, second, third = result["results"]
    assert first["text"] == third["text"] != ""
    assert "too long" in second["error"]
    assert str(remote_server.result("model_info")["max_model_len"]) in second["error"]


def test_session_recalls_what_was_said_and_shown(remote_server: ServerProcess) -> None:
    first = chat(remote_server, "My name is Marlowe.", session_id="name")
    second = chat(remote_server, "What is my name?", session_id="name")
    assert "Marlowe" in second["text"]
    assert (first["session_messages"], second["session_messages"]) == (2, 4)
    chat(remote_server, asked(WHAT, image_part(drawn("green", "square", "white"))), session_id="picture")
    later = chat(remote_server, "What color is the background?", session_id="picture")
    assert "green" in later["text"].lower()
    assert later["usage"]["cached_tokens"] is not None
    for session_id in ("name", "picture"):
        remote_server.result("delete_session", {"session_id": session_id})


def test_progress_adds_up_to_the_text(remote_server: ServerProcess) -> None:
    arguments = {"messages": asked(WHAT, image_part(drawn())), **GREEDY, "max_tokens": 200, "ignore_eos": True}
    request_id = remote_server.send_call("chat_completion", arguments, meta={"progressToken": 0})
    pieces = []
    while "method" in (message := remote_server.read_message()):
        pieces.append(message["params"])
    assert message["id"] == request_id
    assert "".join(piece.get("message", "") for piece in pieces) == message["result"]["structuredContent"]["text"]
    assert len(pieces) > 1
    assert [piece["progress"] for piece in pieces] == sorted({piece["progress"] for piece in pieces})


def test_cancelled_generation_frees_the_model_server(remote_server: ServerProcess, model_server: ModelServer) -> None:
    chat(remote_server, "My name is Marlowe.", session_id="cancelled")
    arguments = {"messages": [{"role": "user", "content": "Hello"}], "session_id": "cancelled", **ENDLESS}
    request_id = remote_server.send_call("chat_completion", arguments, meta={"progressToken": "p"})
    assert remote_server.read_message()["method"] == "notifications/progress"
    assert model_server.n_running() == 1
    remote_server.notify("notifications/cancelled", {"requestId": request_id})
    next_id = remote_server.send_call("get_session", {"session_id": "cancelled"})
    while "method" in (message := remote_server.read_message()):
        pass
    assert message["id"] == next_id
    assert message["result"]["structuredContent"]["total_messages"] == 2
    wait_until(lambda: not model_server.n_running(), 5, interval_s=0.05)
    remote_server.result("delete_session", {"session_id": "cancelled"})


def test_deadline_answers_with_the_text_so_far(remote_server: ServerProcess) -> None:
    result = chat(remote_server, "Hello", **{**ENDLESS, "timeout_s": 0.7})
    assert result["finish_reason"] == "timeout"
    assert 0 < result["usage"]["completion_tokens"] < 6000
    assert result["usage"]["prompt_tokens"] > 0
    assert result["text"]


def test_logprobs_are_the_same(remote_server: ServerProcess, demo_server: ServerProcess) -> None:
    here, there = (
        chat(server, "Hello", logprobs=True, top_logprobs=3)["logprobs"]["content"]
        for server in (demo_server, remote_server)
    )
    assert [entry["token"] for entry in there] == [entry["token"] for entry in here]
    assert [entry["logprob"] for entry in there] == pytest.approx([entry["logprob"] for entry in here], abs=0.05)
    assert all(len(entry["top_logprobs"]) == 3 for entry in there)


def test_json_and_forced_calls_are_the_same(remote_server: ServerProcess, demo_server: ServerProcess) -> None:
    messages = asked(WHAT, image_part(drawn()))
    form = {"type": "json_schema", "json_schema": {"name": "colour", "schema": SCHEMA}}
    here, there = (chat(server, messages, response_format=form) for server in (demo_server, remote_server))
    assert there["text"] == here["text"]
    forced: Json = {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "weather"}}}
    here, there = (chat(server, messages, **forced)["tool_calls"] for server in (demo_server, remote_server))
    assert [call["function"] for call in there] == [call["function"] for call in here]


def test_tools_are_the_model_servers_own_business(remote_server: ServerProcess) -> None:
    text = refusal(remote_server, "chat_completion", messages=asked("Hello"), tools=[WEATHER], **GREEDY)
    assert "--tool-call-parser" in text


def test_relevance_is_as_in_process(remote_server: ServerProcess, demo_server: ServerProcess) -> None:
    rng = random.Random(3)
    urls = [as_data_url(fresh_scene(rng, *(("red", "circle") if n % 2 else ())).image) for n in range(6)]
    for url in urls:
        here, there = (
            server.result("check_image_relevance", {"image_path": url, "query": "red circle"})
            for server in (demo_server, remote_server)
        )
        assert there["probability"] == pytest.approx(here["probability"], abs=0.02)
        assert there["relevant"] == here["relevant"]


def test_images_are_analysed_as_in_process(remote_server: ServerProcess, demo_server: ServerProcess) -> None:
    urls = [as_data_url(drawn(*scene)) for scene in IMAGES]
    arguments: Json = {"image_paths": [*urls, "/there/is/no/such.png"], "query": "red circle", "max_tokens": 40}
    here, there = (server.result("analyze_images_with_query", arguments) for server in (demo_server, remote_server))
    for name in ("relevant", "analysis"):
        assert [item[name] for item in there["results"]] == [item[name] for item in here["results"]]
    assert "arguments.image_paths[3]" in there["results"][3]["error"]
    assert there["answer"] == here["answer"]


def test_model_is_shown_where_it_is(remote_server: ServerProcess, model_server: ModelServer) -> None:
    chat(remote_server, "Hello")
    information = remote_server.result("model_info")
    assert (information["model_name"], information["server_state"], information["device"]) == (
        ModelServer.NAME,
        "ready",
        "remote",
    )
    assert information["max_model_len"] > 0
    assert remote_server.result("get_gpu_status")["model_location"] == "remote"
    assert model_server.url in refusal(remote_server, "offload_gpu")
    assert "No model is loaded here" in remote_server.result("release_gpu")["message"]
    assert chat(remote_server, "Hello")["text"]
    models = remote_server.result("list_available_models")["models"]
    assert [model["name"] for model in models["configured"]] == [ModelServer.NAME]


def test_wrong_key_is_told_without_showing_it(model_server: ModelServer) -> None:
    key = "sk-wrong-9876543210"
    with ServerProcess({"VLLM_BASE_URL": model_server.url, "VLLM_REMOTE_API_KEY": key}) as server:
        text = refusal(server, "chat_completion", messages=asked("Hello"))
        assert "Set VLLM_REMOTE_API_KEY" in text
        server.close_stdin()
        assert server.wait() == 0
        assert key not in text + server.stderr


def test_signal_ends_the_server_promptly_while_another_one_answers() -> None:
    with ScriptedOpenAI() as scripted, ServerProcess({"VLLM_BASE_URL": scripted.url}) as server:
        scripted.script(goes_on)
        server.initialize()
        server.send_call("chat_completion", {"messages": asked("Hello")}, meta={"progressToken": 1})
        while not server.read_message()["params"].get("message", "").startswith("on "):
            pass
        signalled_s = time.monotonic()
        server.signal()
        server.assert_ends_promptly(signalled_s)
