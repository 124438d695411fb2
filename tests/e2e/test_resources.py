"""Resources, prompts, completion and subscriptions, line by line over the real process."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.environments import python_environment
from tests.e2e.pictures import drawn, png
from tests.e2e.server_process import LOAD_S, ROOT, SERVER, Json, ServerProcess
from tests.mcp_results import MODERN, REVISIONS, check_notification, check_result, envelope

SDK_PROGRAM = Path(__file__).parent / "clients" / "sdk2_resources.py"
UPDATED = "notifications/resources/updated"
LIST_CHANGED = "notifications/resources/list_changed"
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
GREEDY: Json = {"temperature": 0, "max_tokens": 20}
METHODS: list[tuple[str, Json]] = [
    ("resources/list", {}),
    ("resources/templates/list", {}),
    ("resources/read", {"uri": "vllm://model"}),
    ("resources/read", {"uri": "vllm://docs/README.md"}),
    ("resources/read", {"uri": "vllm://docs/demo.png"}),
    ("resources/read", {"uri": "vllm://models/demo-vlm"}),
    ("prompts/list", {}),
    ("prompts/get", {"name": "describe_picture", "arguments": {"picture": "/a.png"}}),
    ("prompts/get", {"name": "compare_pictures", "arguments": {"first": "/a.png", "second": "https://x/b.png"}}),
    ("prompts/get", {"name": "extract_json", "arguments": {"picture": "/a.png", "fields": "a, b"}}),
    (
        "completion/complete",
        {"ref": {"type": "ref/prompt", "name": "describe_picture"}, "argument": {"name": "language", "value": "G"}},
    ),
    (
        "completion/complete",
        {
            "ref": {"type": "ref/resource", "uri": "vllm://models/{model}"},
            "argument": {"name": "model", "value": "d"},
        },
    ),
]


def parameters(version: str, params: Json) -> Json:
    """The parameters as a revision wants them."""
    return {**params, "_meta": envelope()} if version == MODERN else params


def assert_only_answers(server: ServerProcess, n_answers: int) -> None:
    """The server has written one line per request and nothing else."""
    server.assert_serves()
    assert len(server.raw_lines) == n_answers + 1
    assert all(b'"method"' not in line[:40] for line in server.raw_lines)


@pytest.mark.parametrize("version", REVISIONS)
def test_each_method_is_answered_in_each_revision(server: ServerProcess, version: str) -> None:
    if version != MODERN:
        capabilities = server.initialize(version)["capabilities"]
        assert capabilities["resources"] == {"subscribe": True, "listChanged": False}
    for method, params in METHODS:
        result = check_result(method, version, server.request(method, parameters(version, params)))
        assert ("resultType" in result) == (version == MODERN), method
    assert_only_answers(server, len(METHODS) + (version != MODERN))


def test_modern_capabilities_are_what_is_served(server: ServerProcess) -> None:
    discovered = server.request("server/discover", {"_meta": envelope()})["result"]
    assert discovered["capabilities"]["resources"] == {"subscribe": True, "listChanged": True}
    assert {"prompts", "completions", "tools"} <= set(discovered["capabilities"])
    for method in ("resources/subscribe", "resources/unsubscribe"):
        answer = server.request(method, parameters(MODERN, {"uri": "vllm://model"}))
        assert answer["error"]["code"] == -32601


def test_everything_that_is_listed_can_be_read(shared_server: ServerProcess) -> None:
    resources = shared_server.request("resources/list")["result"]["resources"]
    assert len(resources) >= 4
    for resource in resources:
        (contents,) = shared_server.request("resources/read", {"uri": resource["uri"]})["result"]["contents"]
        assert contents["mimeType"] == resource["mimeType"]
        data = contents["text"].encode() if "text" in contents else base64.b64decode(contents["blob"], validate=True)
        assert len(data) == resource.get("size", len(data))


def test_picture_and_manual_are_the_files_of_the_clone(shared_server: ServerProcess) -> None:
    read = shared_server.request("resources/read", {"uri": "vllm://docs/demo.png"})
    assert base64.b64decode(read["result"]["contents"][0]["blob"]) == (ROOT / "examples" / "demo.png").read_bytes()
    read = shared_server.request("resources/read", {"uri": "vllm://docs/README.md"})
    assert read["result"]["contents"][0]["text"] == (ROOT / "README.md").read_text("utf-8")


def test_model_is_read_as_the_tool_tells_it(shared_server: ServerProcess) -> None:
    read = shared_server.request("resources/read", parameters(MODERN, {"uri": "vllm://model"}))
    result = check_result("resources/read", MODERN, read)
    assert (result["ttlMs"], result["cacheScope"]) == (0, "private")
    assert json.loads(result["contents"][0]["text"]) == shared_server.result("model_info")


@pytest.mark.parametrize("version", ["2025-11-25", MODERN])
@pytest.mark.parametrize(
    "uri",
    [
        "vllm://docs/../settings.py",
        "vllm://docs/%2e%2e/settings.py",
        "vllm://docs/..%2fsettings.py",
        "vllm://docs/README.md\x00",
        "vllm://models/..",
        "vllm://models/%2Fetc",
        "vllm://sessions/none",
        "vllm://sessions/%00",
        "vllm://sessions/../model",
        "vllm://nothing",
        "file:///etc/passwd",
        "file://host/etc/passwd",
        f"file://{ROOT}/README.md",
        "file:///dev/zero",
        "file:///proc/self/environ",
        "http://127.0.0.1/",
        "\ud800",
        "",
    ],
)
def test_what_is_no_resource_is_refused(shared_server: ServerProcess, version: str, uri: str) -> None:
    answer = shared_server.request("resources/read", parameters(version, {"uri": uri}))
    assert answer["error"] == {
        "code": -32602 if version == MODERN else -32002,
        "message": "Resource not found",
        "data": {"uri": uri.replace("\ud800", "\ufffd")},
    }
    shared_server.assert_serves()


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("resources/read", {}),
        ("resources/list", {"cursor": "zz"}),
        ("prompts/list", {"cursor": 5}),
        ("prompts/get", {"name": "none"}),
        ("prompts/get", {"name": "describe_picture"}),
        ("prompts/get", {"name": "describe_picture", "arguments": {"picture": "/a", "pitcure": "/b"}}),
        ("prompts/get", {"name": "extract_json", "arguments": {"picture": "/a", "schema": "{"}}),
        (
            "completion/complete",
            {"ref": {"type": "ref/prompt", "name": "none"}, "argument": {"name": "a", "value": ""}},
        ),
        ("completion/complete", {}),
    ],
)
def test_wrong_parameters_are_the_callers_error(shared_server: ServerProcess, method: str, params: Json) -> None:
    assert shared_server.request(method, params)["error"]["code"] == -32602
    shared_server.assert_serves()


def test_pictures_are_completed_inside_of_the_allowed_folder(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for name in ("one.png", "two.jpg", "notes.txt"):
        (folder / name).touch()
    with ServerProcess({"VLLM_ALLOWED_MEDIA_DIRS": str(folder)}) as server:
        server.initialize()
        for typed, values in (
            ("", [f"{folder}/"]),
            (f"{folder}/", [f"{folder}/", f"{folder}/more/", f"{folder}/one.png", f"{folder}/two.jpg"]),
            (f"{folder}/o", [f"{folder}/one.png"]),
            ("/etc/", []),
            (f"{folder}/../", []),
        ):
            params = {
                "ref": {"type": "ref/prompt", "name": "describe_picture"},
                "argument": {"name": "picture", "value": typed},
            }
            answer = server.request("completion/complete", params)
            completion = check_result("completion/complete", "2025-11-25", answer)["completion"]
            assert completion == {"values": values, "total": len(values), "hasMore": False}


def test_stream_is_acknowledged_and_answered_at_the_end_of_input(server: ServerProcess) -> None:
    wanted = {"resourcesListChanged": True, "toolsListChanged": True, "resourceSubscriptions": ["vllm://model", "x:y"]}
    server.send_request("subscriptions/listen", parameters(MODERN, {"notifications": wanted}), "listen:0")
    acknowledged = check_notification(ACKNOWLEDGED, MODERN, server.read_message())
    assert acknowledged["notifications"] == {"resourcesListChanged": True, "resourceSubscriptions": ["vllm://model"]}
    server.assert_serves()
    ended_s = time.monotonic()
    server.close_stdin()
    (answer,) = server.remaining()
    assert answer["id"] == "listen:0"
    check_result("subscriptions/listen", MODERN, answer)
    server.assert_ends_promptly(ended_s)


def test_stream_is_answered_at_a_signal_and_holds_nothing_up(server: ServerProcess) -> None:
    server.send_request("subscriptions/listen", parameters(MODERN, {"notifications": {}}), 0)
    server.read_message()
    since_s = time.monotonic()
    server.signal()
    assert [message["id"] for message in server.remaining()] == [0]
    server.assert_ends_promptly(since_s)


def test_cancelled_stream_is_never_answered(server: ServerProcess) -> None:
    server.send_request("subscriptions/listen", parameters(MODERN, {"notifications": {}}), 7)
    server.read_message()
    server.notify("notifications/cancelled", {"requestId": 7})
    server.assert_serves()
    server.close_stdin()
    assert server.remaining() == []
    assert server.wait() == 0


def test_subscribing_without_a_handshake_is_refused(server: ServerProcess) -> None:
    assert server.request("resources/subscribe", {"uri": "vllm://model"})["error"]["code"] == -32600
    server.assert_serves()


# With the model


@pytest.fixture(scope="module")
def talk(model: dict[str, str]) -> list[Json]:
    """All messages of a talk with a session, watched by a legacy client and by a stream, in order."""
    with ServerProcess(model) as server:
        server.initialize()
        for uri in ("vllm://model", "vllm://sessions/watched", "vllm://docs/README.md"):
            answer = server.request("resources/subscribe", {"uri": uri})
            assert check_result("resources/subscribe", "2025-11-25", answer) == {}
        wanted = {"resourcesListChanged": True, "resourceSubscriptions": ["vllm://sessions/watched"]}
        server.send_request("subscriptions/listen", parameters(MODERN, {"notifications": wanted}), "s")
        calls: list[tuple[str, Json]] = [
            (
                "chat_completion",
                {"messages": [{"role": "user", "content": "Hello"}], "session_id": "watched", **GREEDY},
            ),
            ("chat_completion", {"messages": [{"role": "user", "content": "Hello"}], **GREEDY}),
            ("delete_session", {"session_id": "watched"}),
        ]
        for number, (tool, arguments) in enumerate(calls):
            server.send_call(tool, arguments, request_id=number)
        messages = [server.read_message(LOAD_S)]
        while messages[-1].get("id") != len(calls) - 1:
            messages.append(server.read_message(LOAD_S))
        for uri in ("vllm://model", "vllm://sessions/watched"):
            server.request("resources/unsubscribe", {"uri": uri})
        server.notify("notifications/cancelled", {"requestId": "s"})
        server.result("chat_completion", {**calls[0][1], "session_id": "unwatched"})
        server.assert_serves()
        server.close_stdin()
        server.remaining()
        messages += [{"raw": line} for line in server.raw_lines]
    return messages


def test_changes_reach_those_who_asked_and_no_others(talk: list[Json]) -> None:
    told: list[tuple[str, Any, Any]] = []
    for message in talk:
        if message.get("method") == UPDATED:
            params = check_notification(UPDATED, MODERN if "_meta" in message["params"] else "2025-11-25", message)
            told.append((UPDATED, params["uri"], "_meta" in params))
        elif message.get("method") == LIST_CHANGED:
            assert check_notification(LIST_CHANGED, MODERN, message)["_meta"]
            told.append((LIST_CHANGED, None, True))
        elif "id" in message:
            told.append(("answer", message["id"], False))
    model, session = (UPDATED, "vllm://model", False), "vllm://sessions/watched"
    first, second = told.index(("answer", 0, False)), told.index(("answer", 1, False))
    assert told[:first] == [model] * first, "the model loads, then it is ready"
    assert first == 2
    assert set(told[first + 1 : second]) == {
        model,  # it tells the number of sessions
        (UPDATED, session, False),
        (UPDATED, session, True),
        (LIST_CHANGED, None, True),
    }
    assert told[second + 1] == ("answer", 2, False), "a chat without a session changes nothing"


def test_nothing_is_told_after_unsubscribing(talk: list[Json]) -> None:
    raw = b"".join(message["raw"] for message in talk if "raw" in message)
    assert raw.count(LIST_CHANGED.encode()) == 2
    assert b"unwatched" not in re.sub(rb'"session_id":"unwatched"', b"", raw)
    assert b"vllm://docs" not in raw


def test_host_that_only_initializes_gets_one_line_a_request(model: dict[str, str]) -> None:
    """FluidMCP takes every line for the answer to its last request."""
    with ServerProcess(model) as server:
        server.initialize("2024-11-05")
        server.request("resources/list")
        server.request("resources/read", {"uri": "vllm://model"})
        hello = {"messages": [{"role": "user", "content": "Hello"}], "session_id": "s", **GREEDY}
        server.result("chat_completion", hello, timeout_s=LOAD_S)
        server.request("resources/read", {"uri": "vllm://sessions/s"})
        server.result("delete_session", {"session_id": "s"})
        assert_only_answers(server, 6)


def test_conversation_is_read_in_its_turn_and_the_model_at_once(demo_server: ServerProcess) -> None:
    hello = {"messages": [{"role": "user", "content": "Hello"}], "session_id": "read/me", **GREEDY}
    long = {
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 300,
        "min_tokens": 300,
        "ignore_eos": True,
    }
    demo_server.send_call("chat_completion", long, request_id="long")
    demo_server.send_call("chat_completion", hello, request_id="chat")
    demo_server.send_request("resources/read", {"uri": "vllm://sessions/read%2Fme"}, "read")
    demo_server.send_request("resources/read", {"uri": "vllm://model"}, "model")
    answers = [demo_server.read_message(LOAD_S) for _ in range(4)]
    assert [answer["id"] for answer in answers] == ["model", "long", "chat", "read"]
    session = json.loads(answers[3]["result"]["contents"][0]["text"])
    assert [message["role"] for message in session["messages"]] == ["user", "assistant"]
    assert session["messages"][1]["text"] == answers[2]["result"]["structuredContent"]["text"]
    uris = [row["uri"] for row in demo_server.request("resources/list")["result"]["resources"]]
    assert "vllm://sessions/read%2Fme" in uris
    params = {
        "ref": {"type": "ref/resource", "uri": "vllm://sessions/{session_id}"},
        "argument": {"name": "session_id", "value": "read"},
    }
    completed = demo_server.request("completion/complete", params)
    assert completed["result"]["completion"]["values"] == ["read/me"]
    demo_server.result("delete_session", {"session_id": "read/me"})


def test_prompt_leads_to_a_call_that_sees_the_picture(demo_server: ServerProcess, tmp_path: Path) -> None:
    path = tmp_path / "a picture.png"
    path.write_bytes(png(drawn("blue", "circle", "red")))
    params = {"name": "describe_picture", "arguments": {"picture": str(path)}}
    (message,) = demo_server.request("prompts/get", params)["result"]["messages"]
    found = re.search(r"tool (\w+).*^```json\n(.*?)\n```$", message["content"]["text"], re.DOTALL | re.MULTILINE)
    assert found is not None
    answer = demo_server.result(found[1], {**json.loads(found[2]), **GREEDY})["text"].lower()
    assert "red" in answer
    assert "circle" in answer


@pytest.mark.parametrize(("mode", "version"), [("auto", "2026-07-28"), ("legacy", "2025-11-25")])
def test_official_sdk_uses_resources_and_prompts(mode: str, version: str, model: dict[str, str]) -> None:
    run = subprocess.run(
        [python_environment("mcp2"), SDK_PROGRAM, mode, sys.executable, SERVER],
        input=json.dumps({**model, "PATH": os.environ["PATH"]}),
        capture_output=True,
        text=True,
        timeout=LOAD_S,
    )
    assert run.returncode == 0, run.stderr
    seen = json.loads(run.stdout)
    assert seen["protocol_version"] == version
    assert {"vllm://model", "vllm://docs/README.md", "vllm://docs/demo.png"} <= set(seen["resources"])
    assert seen["templates"] == ["vllm://models/{model}", "vllm://sessions/{session_id}"]
    assert sorted(set(seen["read"])) == ["BlobResourceContents", "TextResourceContents"]
    assert seen["prompts"] == ["describe_picture", "compare_pictures", "extract_json"]
    assert '"path":"/a.png"' in seen["prompt"]
    assert seen["languages"] == ["German"]
    assert "demo-vlm" in seen["models"]
    assert ("ResourcesListChanged" if mode == "auto" else "ResourceUpdatedNotification") in seen["told"]
    assert [message["role"] for message in seen["session"]["messages"]] == ["user", "assistant"]
    assert seen["missing"] == "Resource not found"
