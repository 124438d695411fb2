"""Resources, prompts, completion and subscriptions, line by line over the real process."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path

import pytest

from tests.e2e.server_process import ROOT, Json, ServerProcess
from tests.mcp_results import MODERN, REVISIONS, check_notification, check_result, envelope

UPDATED = "notifications/resources/updated"
LIST_CHANGED = "notifications/resources/list_changed"
ACKNOWLEDGED = "notifications/subscriptions/acknowledged"
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


def test_image_and_manual_are_the_files_of_the_clone(shared_server: ServerProcess) -> None:
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


def test_images_are_completed_inside_of_the_allowed_folder(tmp_path: Path) -> None:
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
