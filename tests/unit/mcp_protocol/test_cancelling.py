"""Cancelling, progress and log messages of calls."""

from __future__ import annotations

from typing import Any

import pytest

from tests.mcp_results import MODERN, Json, envelope, text_of
from tests.unit.mcp_protocol.host import Host, error_of


def test_cancelled_running_call_stops_and_gets_no_answer(host: Host) -> None:
    host.call("wait", request_id=5)
    assert host.gates.running.wait(30)
    host.notify("notifications/cancelled", {"requestId": 5, "reason": "user"})
    assert host.gates.ended.wait(30)
    host.drain()


def test_cancelled_queued_call_is_not_run_and_gets_no_answer(host: Host) -> None:
    host.call("wait", request_id=5)
    host.call("echo", {"text": "x"}, request_id=6)
    host.notify("notifications/cancelled", {"requestId": 6})
    host.gates.go_on.set()
    assert host.next()["id"] == 5
    host.drain()
    assert [call.request_id for call in host.gates.calls] == ["drained?"]


@pytest.mark.parametrize(("request_id", "other"), [(1, "1"), ("1", 1), (0, ""), (1, 1.0), (1, True), (None, "")])
def test_cancelling_another_id_cancels_nothing(host: Host, request_id: Any, other: Any) -> None:
    host.call("wait", request_id=request_id)
    assert host.gates.running.wait(30)
    host.notify("notifications/cancelled", {"requestId": other})
    host.gates.go_on.set()
    answer = host.next()
    assert answer["id"] == request_id
    assert text_of(answer) == "waited"


@pytest.mark.parametrize("params", [{"requestId": 1}, {"requestId": [1]}, {"requestId": {}}, {}, None, [1]])
def test_cancelling_what_is_not_there_is_passed_over(host: Host, params: Any) -> None:
    host.call("echo", {"text": "finished"}, request_id=1)
    assert host.next()["id"] == 1
    host.notify("notifications/cancelled", params)
    host.assert_silent()
    host.drain()


@pytest.mark.parametrize("version", ["2025-11-25", MODERN])
def test_id_of_a_cancelled_call_can_be_used_again(host: Host, version: str) -> None:
    meta = envelope() if version == MODERN else None
    host.call("wait", request_id=5, meta=meta)
    host.notify("notifications/cancelled", {"requestId": 5})
    host.call("echo", {"text": "again"}, request_id=5, meta=meta)
    assert text_of(host.next()) == "again"


def test_cancelling_a_repeated_id_cancels_the_oldest_call(host: Host) -> None:
    host.call("wait", request_id=2)
    assert host.gates.running.wait(30)
    host.call("echo", {"text": "second"}, request_id=2)
    host.notify("notifications/cancelled", {"requestId": 2})
    assert text_of(host.next()) == "second"
    host.drain()


@pytest.mark.parametrize("token", [0, "", "abc", 7, -1, 2**60, 1.5])
def test_progress_goes_to_whoever_gave_a_token(host: Host, token: Any) -> None:
    host.initialize()
    host.call("tell", meta={"progressToken": token})
    first, second, answer = host.next(), host.next(), host.next()
    assert first == {
        "jsonrpc": "2.0",
        "method": "notifications/progress",
        "params": {"progressToken": token, "progress": 1, "total": 3, "message": "one"},
    }
    assert second["params"]["progress"] == 3
    assert answer["id"] == 1


@pytest.mark.parametrize("meta", [None, {}, {"progressToken": None}, {"progressToken": True}, {"progressToken": [1]}])
def test_no_token_no_progress(host: Host, meta: Json | None) -> None:
    host.initialize()
    host.call("tell", meta=meta)
    assert host.next()["id"] == 1


def test_progress_has_no_words_where_the_revision_knows_none(host: Host) -> None:
    host.call("tell", meta={"progressToken": 1})
    assert host.next()["params"] == {"progressToken": 1, "progress": 1, "total": 3}


def test_phases_are_progress_that_grows(host: Host) -> None:
    host.initialize()
    host.gates.go_on.set()
    host.call("load", meta={"progressToken": 1})
    params = host.next()["params"]
    assert params["message"] == "loading weights"
    assert 0 < params["progress"] < 1
    assert text_of(host.next()) == "loaded"


def test_legacy_client_gets_log_messages_after_it_set_a_level(host: Host) -> None:
    host.initialize()
    host.call("tell")
    assert host.next()["id"] == 1
    assert host.request("logging/setLevel", {"level": "warning"}) == {"jsonrpc": "2.0", "id": 1, "result": {}}
    host.call("tell")
    assert host.next() == {
        "jsonrpc": "2.0",
        "method": "notifications/message",
        "params": {"level": "warning", "logger": "tell", "data": "a warning"},
    }
    assert host.next()["id"] == 1


@pytest.mark.parametrize("level", [None, "loud", 5, ["debug"], "DEBUG"])
def test_unknown_log_level_is_an_error(host: Host, level: Any) -> None:
    code, message = error_of(host.request("logging/setLevel", {"level": level}))
    assert code == -32602
    assert "debug, info" in message


def test_modern_client_sets_the_log_level_with_each_request(host: Host) -> None:
    host.request("logging/setLevel", {"level": "debug"})  # a legacy client's, in the same process
    host.call("tell", meta=envelope())
    assert host.next()["id"] == 1
    host.call("tell", meta=envelope(**{"io.modelcontextprotocol/logLevel": "debug"}))
    assert [host.next()["params"]["level"] for _ in range(2)] == ["debug", "warning"]
    assert host.next()["id"] == 1


@pytest.mark.parametrize("level", [None, 5, "loud", []])
def test_junk_for_a_log_level_is_no_log_level(host: Host, level: Any) -> None:
    host.call("tell", meta=envelope(**{"io.modelcontextprotocol/logLevel": level}))
    assert host.next()["id"] == 1
