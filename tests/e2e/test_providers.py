"""Providers through the real process: a real vLLM server as OpenAI, the engine here, and services that misbehave."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.images import as_data_url, drawn, png
from tests.e2e.model_server import ModelServer
from tests.e2e.server_process import LOAD_S, Json, ServerProcess
from tests.scripted_openai import (
    CHAT,
    MODEL,
    MODELS,
    Route,
    ScriptedOpenAI,
    answers,
    echoes_key,
    floods,
    goes_on,
    hangs_up,
    piece,
    refuses,
    streams,
)
from tests.unit.media.sample_media import audio_file, video_file
from tests.waiting import wait_until

TOOL = "generate_multimodal_response"
KEY = "sk-e2e-secret-9876543210"
WHAT = "What is in this image?"
GREEDY: Json = {"temperature": 0, "max_tokens": 40}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that text may be read from, with a file of each kind."""
    folder = tmp_path_factory.mktemp("allowed")
    (folder / "circle.png").write_bytes(png(drawn("blue", "circle", "red")))
    (folder / "notes.txt").write_text("My name is Marlowe.")
    (folder / "voice.wav").write_bytes(audio_file(seconds=0.5))
    (folder / "clip.mp4").write_bytes(video_file(frames=8))
    return folder


@pytest.fixture(scope="module")
def server(model_server: ModelServer, model: dict[str, str], folder: Path) -> Iterator[ServerProcess]:
    """Our server with the engine in it, and with a real vLLM server as the provider openai."""
    environment = {
        **model,
        "OPENAI_BASE_URL": f"{model_server.url}/v1",
        "OPENAI_API_KEY": ModelServer.KEY,
        "VLLM_ALLOWED_MEDIA_DIRS": str(folder),
        "VLLM_LOG_LEVEL": "DEBUG",
    }
    with ServerProcess(environment) as process:
        process.initialize()
        yield process
        process.close_stdin()
        process.wait()
        assert ModelServer.KEY not in process.stderr + b"".join(process.raw_lines).decode()


def ask(server: ServerProcess, prompt: str, **arguments: Any) -> Json:
    return server.result(TOOL, {"prompt": prompt, **GREEDY, **arguments})


def refusal(server: ServerProcess, tool: str = TOOL, **arguments: Any) -> str:
    result = server.call(tool, arguments)["result"]
    assert result["isError"], result
    text: str = result["content"][0]["text"]
    return text


def test_image_is_seen_by_a_provider_and_here_alike(server: ServerProcess, folder: Path) -> None:
    by_url: Json = {"image_urls": [as_data_url(drawn("blue", "circle", "red"))]}
    by_path: Json = {"file_paths": [str(folder / "circle.png")]}
    there = ask(server, WHAT, model=ModelServer.NAME, provider="openai", **by_url)
    here = ask(server, WHAT, provider="local", **by_path)
    assert "red circle" in there["text"].lower()
    assert here["text"] == there["text"]
    assert (there["provider"], there["model"], here["provider"]) == ("openai", ModelServer.NAME, "local")
    for name in ("prompt_tokens", "completion_tokens"):
        assert here["usage"][name] == there["usage"][name] > 0
    assert there["usage"]["image_tokens"] > 0
    assert there["timings"]["first_token_ms"] > 0
    assert [each["kind"] for each in here["attachments"]] == ["image"]


def test_text_file_goes_into_the_prompt(server: ServerProcess, folder: Path) -> None:
    arguments: Json = {"file_paths": [str(folder / "notes.txt")], "model": ModelServer.NAME}
    there = ask(server, "Hello.", provider="openai", **arguments)
    here = ask(server, "Hello.", **arguments)
    assert (here["provider"], here["text"]) == ("local", there["text"])
    assert here["usage"]["prompt_tokens"] == there["usage"]["prompt_tokens"] > 20
    outside = refusal(server, prompt="Hello.", file_paths=[__file__])
    assert "outside the folders that VLLM_ALLOWED_MEDIA_DIRS allows" in outside


@pytest.mark.parametrize("name", ["voice.wav", "clip.mp4"])
def test_model_that_takes_no_sound_or_film_says_so(server: ServerProcess, folder: Path, name: str) -> None:
    arguments: Json = {"prompt": "What is this?", "file_paths": [str(folder / name)]}
    assert "accepts text and images, no" in refusal(server, provider="local", **arguments)
    text = refusal(server, provider="openai", **arguments)
    assert "The model server refuses this request (HTTP 400)" in text
    ask(server, "Hello", provider="openai")


def test_all_providers_are_listed(server: ServerProcess, model_server: ModelServer) -> None:
    found = {each["name"]: each for each in server.result("list_available_providers")["providers"]}
    assert list(found) == ["local", "openai", "dashscope"]
    assert [model["id"] for model in found["openai"]["models"]] == [ModelServer.NAME]
    assert found["openai"]["models"][0]["context_length"] > 0
    assert (found["openai"]["configured"], found["openai"]["reachable"]) == (True, True)
    assert found["openai"]["base_url"] == model_server.url
    assert (found["dashscope"]["configured"], found["dashscope"]["reachable"]) == (False, None)
    assert "set DASHSCOPE_API_KEY" in found["dashscope"]["error"]


def test_request_is_checked_before_it_is_sent(server: ServerProcess, folder: Path) -> None:
    files = [str(folder / "circle.png"), str(folder / "notes.txt")]
    request: Json = {"prompt": WHAT, "provider": "openai", "file_paths": files, **GREEDY}
    found = server.result("validate_multimodal_request", request)
    assert (found["valid"], found["errors"], found["model"]) == (True, [], ModelServer.NAME)
    assert [each["kind"] for each in found["attachments"]] == ["image", "text"]
    assert found["estimated_prompt_tokens"] > 0
    bad = {**request, "model": "gpt-none", "temperature": 9, "image_urls": ["/no/such.png"]}
    found = server.result("validate_multimodal_request", bad)
    assert not found["valid"]
    assert len(found["errors"]) == 3


def test_progress_adds_up_and_cancelling_frees_the_server(server: ServerProcess, model_server: ModelServer) -> None:
    arguments: Json = {"prompt": "Hello", "provider": "openai", "max_tokens": 200, "ignore_eos": True, "seed": 1}
    request_id = server.send_call(TOOL, arguments, meta={"progressToken": 0})
    pieces = []
    while "method" in (message := server.read_message()):
        pieces.append(message["params"].get("message", ""))
    assert message["id"] == request_id
    assert "".join(pieces) == message["result"]["structuredContent"]["text"]
    endless = {**arguments, "max_tokens": 6000, "min_tokens": 6000}
    request_id = server.send_call(TOOL, endless, meta={"progressToken": 1})
    assert server.read_message()["method"] == "notifications/progress"
    server.notify("notifications/cancelled", {"requestId": request_id})
    next_id = server.send_call("model_info")
    while "method" in (message := server.read_message()):
        pass
    assert message["id"] == next_id, "a cancelled call gets no answer"
    wait_until(lambda: not model_server.n_running(), 10, interval_s=0.05)


def test_deadline_answers_with_the_text_so_far(server: ServerProcess) -> None:
    endless: Json = {"max_tokens": 6000, "min_tokens": 6000, "ignore_eos": True, "timeout_s": 1.5}
    result = ask(server, "Hello", **{**endless, "provider": "openai"})
    assert result["finish_reason"] == "timeout"
    assert result["text"]


def test_wrong_key_is_told_without_showing_it(model_server: ModelServer) -> None:
    environment = {"OPENAI_BASE_URL": model_server.url, "OPENAI_API_KEY": KEY, "VLLM_LOG_LEVEL": "DEBUG"}
    with ServerProcess(environment) as server:
        text = refusal(server, prompt="Hello", provider="openai", model=ModelServer.NAME)
        assert "does not accept the key (HTTP 401). Set OPENAI_API_KEY" in text
        (openai,) = server.result("list_available_providers", {"provider": "openai"})["providers"]
        assert openai["reachable"] is False
        server.close_stdin()
        assert server.wait() == 0
        assert KEY not in server.stderr + b"".join(server.raw_lines).decode()


# Services that misbehave

FAILURES: list[tuple[Route, str]] = [
    (refuses(401, f"Incorrect API key provided: {KEY}"), "does not accept the key (HTTP 401)"),
    (refuses(403, f"{KEY} may not"), "(HTTP 403)"),
    (refuses(404, "no such model"), "(HTTP 404)"),
    (refuses(429, "slow down", Retry_After="0"), "(HTTP 429)"),
    (refuses(429, "slow down", Retry_After="3600"), "It asks to wait 3600 s."),
    (refuses(500, f"boom {KEY}"), "(HTTP 500)"),
    (hangs_up, "was lost"),
    (streams(piece(content="half")), "was lost"),
    (streams(piece(content="half"), "{no json"), "not what an OpenAI-compatible server sends"),
    (answers(b"[1]"), "instead of a stream of events"),
    (answers(b"<html>hi</html>", Content_Type="text/html"), "answered text/html"),
    (floods, "longer than max_tokens allows"),
    (echoes_key(400), "(HTTP 400)"),
    (answers(b"", 302, Location=f"http://other.example/{KEY}"), "redirects"),
]


def test_failures_are_told_store_nothing_and_show_no_key(tmp_path: Path) -> None:
    with ScriptedOpenAI() as scripted:
        (tmp_path / "settings.env").write_text(f"export OPENAI_API_KEY='{KEY}' # ours\nVLLM_REMOTE_API_KEY={KEY}\n")
        environment = {
            "VLLM_ENV_FILE": str(tmp_path / "settings.env"),
            "VLLM_BASE_URL": scripted.url,
            "OPENAI_BASE_URL": scripted.url,
            "VLLM_LOG_LEVEL": "DEBUG",
        }
        with ServerProcess(environment) as server:
            server.initialize()
            say: Json = {"messages": [{"role": "user", "content": "one two"}], "session_id": "s"}
            assert server.result("chat_completion", say)["session_messages"] == 2
            for route, text in FAILURES:
                scripted.script(route)
                assert text in refusal(server, prompt="one two", provider="openai"), text
                assert text in refusal(server, "chat_completion", **say), text
                assert server.result("get_session", {"session_id": "s"})["total_messages"] == 2
            scripted.script(streams(piece(content=KEY[:9]), piece("stop", content=KEY[9:]), "[DONE]"))
            assert server.result(TOOL, {"prompt": "?", "provider": "openai"})["text"] == "…"
            assert server.result("chat_completion", say)["text"] == "…"
            scripted.script(goes_on)
            late = server.result(TOOL, {"prompt": "?", "provider": "openai", "timeout_s": 1.0})
            assert (late["finish_reason"], late["text"][:3]) == ("timeout", "on ")
            scripted.script(scripted.honest)
            assert server.result(TOOL, {"prompt": "one two", "provider": "openai"})["text"] == "one two"
            server.close_stdin()
            assert server.wait() == 0
            assert KEY not in server.stderr + b"".join(server.raw_lines).decode()
        assert set(scripted.keys) == {f"Bearer {KEY}"}


@pytest.mark.parametrize("phase", ["asking", "generating"])
def test_signal_ends_the_server_promptly_whatever_a_service_does(phase: str) -> None:
    with ScriptedOpenAI() as scripted, ServerProcess({"OPENAI_BASE_URL": scripted.url}) as server:
        scripted.script(goes_on, path=MODELS if phase == "asking" else CHAT)
        server.initialize()
        server.send_call(TOOL, {"prompt": "Hello", "model": MODEL}, meta={"progressToken": 1})
        until_s = time.monotonic() + 30
        while scripted.seen[-1:] == [] or (phase == "generating" and not scripted.chats()):
            assert time.monotonic() < until_s
            time.sleep(0.01)
        signalled_s = time.monotonic()
        server.signal()
        server.assert_ends_promptly(signalled_s)


def test_key_does_not_follow_a_redirect() -> None:
    with ScriptedOpenAI() as scripted, ScriptedOpenAI() as other:
        with ServerProcess({"OPENAI_BASE_URL": scripted.url, "OPENAI_API_KEY": KEY}) as server:
            scripted.script(answers(b"", 307, Location=f"{other.url}{MODELS}"), path=MODELS)
            (openai,) = server.result("list_available_providers", {"provider": "openai"})["providers"]
            assert "redirects to another address" in openai["error"]
        assert other.seen == []


def test_providers_of_a_file(tmp_path: Path) -> None:
    with ScriptedOpenAI(["a", "b"]) as lab:
        entries = [
            {"name": "lab", "base_url": f"{lab.url}/v1", "api_key_env": "LAB_KEY", "default_model": "b"},
            {"name": "gone", "base_url": "http://127.0.0.1:1/v1", "api_key": KEY},
        ]
        (tmp_path / "config.json").write_text(json.dumps({"providers": entries}))
        (tmp_path / ".env").write_text(f"LAB_KEY={KEY}\nVLLM_CONFIG_FILE={tmp_path / 'config.json'}\n")
        environment = {"VLLM_ENV_FILE": str(tmp_path / ".env"), "VLLM_TOOLSETS": "providers"}
        with ServerProcess(environment) as server:
            tools = [tool["name"] for tool in server.request("tools/list")["result"]["tools"]]
            assert tools == [TOOL, "list_available_providers", "validate_multimodal_request"]
            assert ask(server, "one two", provider="lab")["model"] == "b"
            assert ask(server, "one two", model="a")["provider"] == "lab"
            found = {each["name"]: each for each in server.result("list_available_providers")["providers"]}
            assert list(found) == ["local", "openai", "dashscope", "lab", "gone"]
            assert found["lab"]["reachable"] is True
            assert "Cannot connect" in found["gone"]["error"]
            text = refusal(server, prompt="?", model="nowhere")
            assert "searched: local, lab." in text
            assert "set OPENAI_API_KEY" in text
            assert KEY not in b"".join(server.raw_lines).decode()
        assert set(lab.keys) == {f"Bearer {KEY}"}


def test_file_that_cannot_be_used_is_told_by_every_call(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"providers": [{"name": "lab", "api_key": KEY}]}))
    (tmp_path / ".env").write_text(f"KEY {KEY}")
    environment = {"VLLM_ENV_FILE": str(tmp_path / ".env"), "VLLM_CONFIG_FILE": str(tmp_path / "config.json")}
    with ServerProcess(environment) as server:
        text = refusal(server, "model_info")
        assert "The file that VLLM_ENV_FILE names cannot be read: line 1 must be NAME=value" in text
        assert "providers[0]: object missing required field base_url" in text
        server.close_stdin()
        server.wait()
        assert KEY not in text + server.stderr


def test_env_file_in_the_working_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("VLLM_MAX_SESSIONS=none\n")
    with ServerProcess(cwd=tmp_path) as server:
        assert server.result("model_info")["max_sessions"] == 100


def test_variables_of_the_env_file_reach_the_engine(model: dict[str, str], tmp_path: Path) -> None:
    lines = "\n".join(f"{name}={value}" for name, value in model.items())
    (tmp_path / ".env").write_text(f"{lines}\nVLLM_DEFAULT_MAX_TOKENS=3\n")
    with ServerProcess({"VLLM_ENV_FILE": str(tmp_path / ".env")}) as server:
        result = server.result(TOOL, {"prompt": "Hello", "ignore_eos": True}, timeout_s=LOAD_S)
        assert (result["provider"], result["usage"]["completion_tokens"]) == ("local", 3)
        assert os.path.basename(model["VLLM_MODEL_NAME"]) in result["model"]
