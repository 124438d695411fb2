"""Resources, prompts and subscriptions of a server with the model: what changes, and who is notified."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.environments import python_environment
from tests.e2e.images import drawn, png
from tests.e2e.server_process import LOAD_S, SERVER, Json, ServerProcess
from tests.e2e.test_resources import LIST_CHANGED, UPDATED, assert_only_answers, parameters
from tests.mcp_results import MODERN, check_notification, check_result

GREEDY: Json = {"temperature": 0, "max_tokens": 20}
SDK_PROGRAM = Path(__file__).parent / "clients" / "sdk2_resources.py"


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


def test_prompt_leads_to_a_call_that_sees_the_image(demo_server: ServerProcess, tmp_path: Path) -> None:
    path = tmp_path / "an image.png"
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
