"""A server with two models over real pipes: the bundled vision model, and a tiny one that takes text only.

Calls name the model, sessions change it, and the tools about models tell of each and act on one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import tiny_models
from tests.e2e.images import drawn, png
from tests.e2e.server_process import LOAD_S, Json, ServerProcess

TEXT = "tiny-text"


@pytest.fixture(scope="module")
def default_name(model: dict[str, str]) -> str:
    """The name of the default model."""
    return Path(model["VLLM_MODEL_NAME"]).name


@pytest.fixture(scope="module")
def both(model: dict[str, str]) -> dict[str, str]:
    """The settings of a server with both models."""
    return {**model, "GPU_IDLE_TIMEOUT": "0", "VLLM_MODELS": f"{TEXT}={tiny_models.text_model()}"}


@pytest.fixture(scope="module")
def pair(both: dict[str, str]) -> Iterator[ServerProcess]:
    """A server that has loaded both; tests leave both loaded."""
    with ServerProcess({**both, "VLLM_CPU_KVCACHE_SPACE": "0.25"}) as server:
        server.initialize()
        for name in (None, TEXT):
            server.result("chat_completion", chat("Hello", name), timeout_s=LOAD_S)
        yield server


@pytest.fixture
def image(tmp_path: Path) -> str:
    """The path of an image."""
    path = tmp_path / "circle.png"
    path.write_bytes(png(drawn()))
    return str(path)


def chat(text: str | list[Json], model: str | None = None, **arguments: Json | str | int) -> Json:
    """Arguments of a short greedy chat."""
    named = {} if model is None else {"model": model}
    messages = [{"role": "user", "content": text}]
    return {"messages": messages, "max_tokens": 4, "temperature": 0, **named, **arguments}


def states(server: ServerProcess) -> dict[str, str]:
    """The state of each model."""
    return {each["name"]: each["state"] for each in server.result("model_info")["models"]}


def error_of(server: ServerProcess, tool: str, arguments: Json) -> str:
    """The text of a call that fails."""
    result = server.call(tool, arguments, timeout_s=LOAD_S)["result"]
    assert result["isError"], result
    return str(result["content"][0]["text"])


def test_each_model_answers_by_its_name(pair: ServerProcess, default_name: str) -> None:
    default = pair.result("chat_completion", chat("Hello"))
    assert default["model"] == default_name
    assert pair.result("chat_completion", chat("Hello", default_name))["text"] == default["text"]
    other = pair.result("chat_completion", chat("Hello", TEXT))
    assert other["model"] == TEXT
    assert other["text"] != default["text"]
    batch = {"conversations": [chat("Hello")["messages"]] * 2, "model": TEXT, "max_tokens": 4, "temperature": 0}
    answered = pair.result("chat_completion_batch", batch)
    assert answered["model"] == TEXT
    assert [each["text"] for each in answered["results"]] == [other["text"]] * 2


def test_unknown_name_is_told_with_the_names_there_are(pair: ServerProcess, default_name: str) -> None:
    error = error_of(pair, "chat_completion", chat("Hello", "tiny-txt"))
    assert error.startswith("There is no model 'tiny-txt' here. Did you mean tiny-text?")
    assert f"The models of this server: {default_name}, {TEXT}." in error


def test_images_go_to_the_vision_model_and_are_refused_for_the_other(
    pair: ServerProcess, image: str, default_name: str
) -> None:
    query = {"image_path": image, "query": "What is this?", "max_tokens": 4}
    assert pair.result("analyze_single_image", query)["model"] == default_name
    assert f"The model {TEXT} does not accept images." in error_of(
        pair, "analyze_single_image", {**query, "model": TEXT}
    )
    error = error_of(pair, "chat_completion", chat([{"type": "image", "path": image}], TEXT))
    assert f"The model {TEXT} does not accept images." in error


def test_session_goes_on_with_a_model_that_takes_no_images(pair: ServerProcess, image: str, default_name: str) -> None:
    content = [{"type": "text", "text": "What is this?"}, {"type": "image", "path": image}]
    pair.result("chat_completion", chat(content, session_id="both"))
    told = pair.result("chat_completion", chat("And now?", TEXT, session_id="both"))
    assert told["warnings"] == [
        f"Media of earlier turns were left out, since the model {TEXT} does not accept them (images: 1)."
    ]
    back = pair.result("chat_completion", chat("And now?", session_id="both"))
    assert back["usage"]["image_tokens"] > 0
    assert "warnings" not in back
    shown = pair.result("get_session", {"session_id": "both"})["messages"]
    assert [message["model"] for message in shown] == [None, default_name, None, TEXT, None, default_name]
    assert [message["images"] for message in shown] == [1, 0, 0, 0, 0, 0]
    pair.result("delete_session", {"session_id": "both"})


def test_tools_about_models_tell_of_each(pair: ServerProcess, default_name: str) -> None:
    info = pair.result("model_info")
    assert info["model_name"] == default_name
    assert [(each["name"], each["is_default"], each["state"]) for each in info["models"]] == [
        (default_name, True, "ready"),
        (TEXT, False, "ready"),
    ]
    assert [each["accepts"] for each in info["models"]] == [["text", "image"], ["text"]]
    other = pair.result("model_info", {"model": TEXT})
    assert (other["model_name"], other["supports_images"]) == (TEXT, False)
    assert other["max_model_len"] != info["max_model_len"]
    assert pair.result("get_gpu_status", {"model": TEXT})["model_name"] == TEXT
    assert pair.result("get_model_status", {"model": TEXT})["supports_images"] is False
    configured = pair.result("list_available_models")["models"]["configured"]
    assert [(each["name"], each["state"], each["accepts"]) for each in configured] == [
        (default_name, "ready", ["text", "image"]),
        (TEXT, "ready", ["text"]),
    ]


def test_release_of_one_leaves_the_other_loaded(pair: ServerProcess, default_name: str) -> None:
    before = pair.result("chat_completion", chat("Hello"))["text"]
    released = pair.result("release_gpu", {"model": TEXT})
    assert released["status"] == "released"
    assert states(pair) == {default_name: "ready", TEXT: "unloaded"}
    again = pair.result("chat_completion", chat("Hello"))
    assert (again["text"], again["timings"]["load_ms"]) == (before, 0)
    reloaded = pair.result("chat_completion", chat("Hello", TEXT), timeout_s=LOAD_S)
    assert (reloaded["model"], reloaded["timings"]["load_ms"] > 0) == (TEXT, True)


def test_idle_timeout_of_one_leaves_the_other_loaded(pair: ServerProcess, default_name: str) -> None:
    pair.result("chat_completion", chat("Hello", TEXT))
    pair.result("update_gpu_timeout", {"timeout_seconds": 1, "model": TEXT})
    deadline_s = time.monotonic() + LOAD_S
    while states(pair)[TEXT] != "unloaded":
        assert time.monotonic() < deadline_s
        time.sleep(0.2)
    assert states(pair)[default_name] == "ready"
    assert pair.result("get_gpu_status")["idle_timeout"] == 0
    pair.result("update_gpu_timeout", {"timeout_seconds": 0})
    pair.result("chat_completion", chat("Hello", TEXT), timeout_s=LOAD_S)


def test_session_of_two_models_outlives_a_restart(
    both: dict[str, str], image: str, tmp_path: Path, default_name: str
) -> None:
    environment = {**both, "VLLM_CPU_KVCACHE_SPACE": "0.25", "VLLM_SESSION_DB": str(tmp_path / "sessions.db")}
    content = [{"type": "text", "text": "What is this?"}, {"type": "image", "path": image}]
    with ServerProcess(environment) as first:
        first.initialize()
        first.result("chat_completion", chat(content, session_id="s"), timeout_s=LOAD_S)
    with ServerProcess(environment) as second:
        second.initialize()
        (session,) = second.result("list_sessions")["sessions"]
        assert session["model"] == default_name
        told = second.result("chat_completion", chat("And now?", TEXT, session_id="s"), timeout_s=LOAD_S)
        assert told["warnings"]
        shown = second.result("get_session", {"session_id": "s"})["messages"]
        assert [message["model"] for message in shown] == [None, default_name, None, TEXT]
        assert states(second) == {default_name: "unloaded", TEXT: "ready"}


def test_one_model_has_the_answers_of_always(demo_server: ServerProcess, default_name: str) -> None:
    for tool in ("model_info", "get_gpu_status", "get_model_status"):
        assert "models" not in demo_server.result(tool)
    assert demo_server.result("chat_completion", chat("Hello", default_name))["model"] == default_name
    assert f"The models of this server: {default_name}." in error_of(
        demo_server, "chat_completion", chat("Hello", "other")
    )
