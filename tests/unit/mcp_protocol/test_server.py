"""Handshake, discovery, envelopes, batches, and the work that a session begins with."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_protocol.calls.task import Task
from mcp_protocol.stdio import LineTooLong
from tests.mcp_results import LEGACY, MODERN, REVISIONS, Json, check_result, envelope, text_of
from tests.unit.mcp_protocol.conftest import MakeHost
from tests.unit.mcp_protocol.host import ICON, NO_ID, Host, error_of, modern

ONE_OF_EACH: list[tuple[str, Json]] = [
    ("ping", {}),
    ("tools/call", {"name": "echo", "arguments": {"text": "x"}}),
    ("no/such", {}),
]
IDS = [0, "", -1, 1.5, 2**70, "a" * 10_000, "1", "\u2028é", None]


@pytest.mark.parametrize("version", LEGACY)
def test_initialize_agrees_on_each_legacy_version(host: Host, version: str) -> None:
    result = host.initialize(version)
    assert result["protocolVersion"] == version
    assert result["serverInfo"]["name"] == "test-server"
    assert result["capabilities"] == {"tools": {"listChanged": False}, "logging": {}}


@pytest.mark.parametrize("params", [{}, None, {"protocolVersion": None}, {"protocolVersion": MODERN}])
def test_initialize_never_fails_over_the_version(host: Host, params: Any) -> None:
    assert host.request("initialize", params)["result"]["protocolVersion"] == "2025-11-25"


def test_initialize_may_be_repeated_with_another_version(host: Host) -> None:
    assert host.initialize("2025-06-18")["protocolVersion"] == "2025-06-18"
    assert host.initialize("2024-11-05")["protocolVersion"] == "2024-11-05"


def test_discovery_names_all_five_versions_in_the_modern_era(host: Host) -> None:
    result = check_result("server/discover", MODERN, host.request("server/discover", modern()))
    assert sorted(result["supportedVersions"]) == sorted(REVISIONS)
    assert result["instructions"] == "Use it in tests."
    assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["version"] == "1.2.3"


@pytest.mark.parametrize("version", LEGACY)
def test_icons_are_in_initialize_from_the_revision_on_that_has_them(host: Host, version: str) -> None:
    icons = host.initialize(version)["serverInfo"].get("icons")
    assert icons == ([ICON] if version == "2025-11-25" else None)


def test_icons_are_in_discovery_and_in_no_other_result(host: Host) -> None:
    described = [host.request(method, modern())["result"]["_meta"] for method in ("server/discover", "tools/list")]
    assert [meta["io.modelcontextprotocol/serverInfo"].get("icons") for meta in described] == [[ICON], None]


def test_ping_is_exactly_an_empty_object_before_and_after_initialize(host: Host) -> None:
    assert host.request("ping") == {"jsonrpc": "2.0", "id": 1, "result": {}}
    host.initialize()
    assert host.request("ping", {"_meta": {"progressToken": 1}})["result"] == {}


@pytest.mark.parametrize("method", ["initialize", "ping", "logging/setLevel"])
def test_methods_that_the_modern_era_removed_are_unknown_there(host: Host, method: str) -> None:
    assert error_of(host.request(method, modern()))[0] == -32601


@pytest.mark.parametrize("method", ["server/discover", "subscriptions/listen"])
def test_modern_method_without_its_envelope_is_told_what_is_missing(host: Host, method: str) -> None:
    without: tuple[Json, ...] = ({}, {"_meta": {}}, {"_meta": 5}, {"notifications": {}})
    for params in without:
        code, message = error_of(host.request(method, params))
        assert code == -32602
        assert "io.modelcontextprotocol/protocolVersion" in message
    host.initialize()
    assert error_of(host.request(method, {}))[0] == -32601
    host.initialize()


@pytest.mark.parametrize("method", ["resources/list", "prompts/list", "completion/complete", "tasks/list", "x", ""])
@pytest.mark.parametrize("params", [{}, modern()], ids=["legacy", "modern"])
def test_unknown_request_is_an_error(host: Host, method: str, params: Json) -> None:
    assert error_of(host.request(method, params)) == (-32601, f"Method not found: {method}")


def test_unknown_method_is_echoed_only_in_part(host: Host) -> None:
    assert len(error_of(host.request("x" * 100_000))[1]) < 300


@pytest.mark.parametrize(
    "method", ["notifications/initialized", "notifications/unknown", "notifications/", "notifications/cancelled"]
)
@pytest.mark.parametrize("params", [None, {}, [], "x", modern()])
def test_notifications_are_never_answered(host: Host, method: str, params: Any) -> None:
    host.notify(method, params)
    host.send(method, params, request_id=5)
    host.assert_silent()


@pytest.mark.parametrize(
    "line", [b'{"jsonrpc":"2.0","id":1,"result":{}}', b'{"id":"x","error":{"code":1,"message":""}}']
)
def test_answers_of_the_client_are_passed_over(host: Host, line: bytes) -> None:
    host.line(line)
    host.assert_silent()


@pytest.mark.parametrize("request_id", IDS)
@pytest.mark.parametrize(("method", "params"), ONE_OF_EACH)
def test_id_comes_back_as_it_was(host: Host, request_id: Any, method: str, params: Json) -> None:
    answer = host.request(method, params, request_id)
    assert answer["id"] == request_id
    assert type(answer["id"]) is type(request_id)


@pytest.mark.parametrize(("method", "params"), ONE_OF_EACH)
def test_request_without_id_is_answered_with_null(host: Host, method: str, params: Json) -> None:
    assert host.request(method, params, NO_ID)["id"] is None


def test_request_without_jsonrpc_is_served(host: Host) -> None:
    host.line(b'{"id":1,"method":"ping"}')
    assert host.next() == {"jsonrpc": "2.0", "id": 1, "result": {}}


def test_repeated_ids_are_answered_one_by_one(host: Host) -> None:
    for text in ("a", "b"):
        host.call("echo", {"text": text}, request_id=2)
    assert [text_of(host.next()), text_of(host.next())] == ["a", "b"]


@pytest.mark.parametrize("line", [b"{", b"nonsense", b"\xff", b"[" * 100_000])
def test_bad_line_is_answered_without_id_and_the_next_line_is_served(host: Host, line: bytes) -> None:
    host.line(line)
    answer = host.next()
    assert "id" not in answer
    assert error_of(answer)[0] == -32700
    host.assert_silent()


def test_too_long_line_is_answered_with_the_limit(make_host: MakeHost) -> None:
    host = make_host()
    host.line(LineTooLong())
    answer = host.next()
    assert "id" not in answer
    code, message = error_of(answer)
    assert code == -32600
    assert str(64 << 20) in message
    host.assert_silent()


@pytest.mark.parametrize(
    "meta", [{"io.modelcontextprotocol/protocolVersion": MODERN}, {"io.modelcontextprotocol/clientCapabilities": {}}]
)
def test_half_an_envelope_is_an_error_with_the_requests_id(host: Host, meta: Json) -> None:
    assert error_of(host.request("tools/list", {"_meta": meta}, "h"))[0] == -32602


def test_unknown_modern_version_is_an_error_with_the_requests_id(host: Host) -> None:
    meta = {**envelope(), "io.modelcontextprotocol/protocolVersion": "2030-01-01"}
    answer = host.request("server/discover", {"_meta": meta}, "probe")
    assert error_of(answer)[0] == -32022
    assert answer["error"]["data"]["requested"] == "2030-01-01"


BATCH = b'[{"jsonrpc":"2.0","id":1,"method":"ping"},{"method":"notifications/x"},7,{"id":2,"method":"tools/list"}]'


def test_batch_in_its_one_revision_is_answered_line_by_line(host: Host) -> None:
    host.initialize("2025-03-26")
    host.line(BATCH)
    assert host.next() == {"jsonrpc": "2.0", "id": 1, "result": {}}
    assert error_of(host.next())[0] == -32600
    assert host.next()["id"] == 2
    host.assert_silent()


@pytest.mark.parametrize("version", [None, *(version for version in LEGACY if version != "2025-03-26")])
def test_batch_in_any_other_revision_is_one_error(host: Host, version: str | None) -> None:
    if version is not None:
        host.initialize(version)
    host.line(BATCH)
    answer = host.next()
    assert "id" not in answer
    assert error_of(answer)[0] == -32600
    host.assert_silent()


def test_empty_batch_is_an_error(host: Host) -> None:
    host.initialize("2025-03-26")
    host.line(b"[]")
    assert error_of(host.next())[0] == -32600
    host.assert_silent()


def test_initialize_cannot_be_part_of_a_batch(host: Host) -> None:
    host.initialize("2025-03-26")
    host.line(b'[{"id":9,"method":"initialize","params":{"protocolVersion":"2024-11-05"}}]')
    answer = host.next()
    assert answer["id"] == 9
    assert error_of(answer)[0] == -32600
    host.line(b'[{"id":1,"method":"ping"}]')
    assert host.next()["result"] == {}


@pytest.mark.parametrize(("method", "params"), [("initialize", {}), ("tools/list", modern())])
def test_start_work_runs_once_with_the_first_sign_of_a_session(make_host: MakeHost, method: str, params: Json) -> None:
    runs: list[str] = []
    host = make_host(startup_task=Task("preload", lambda enter_phase: runs.append("ran")))
    host.request("ping")
    host.request("server/discover", modern())
    host.drain()
    assert runs == []
    host.request(method, params)
    host.request(method, params)
    host.drain()
    assert runs == ["ran"]


def test_failed_start_work_does_not_stop_the_worker(make_host: MakeHost) -> None:
    def fail(enter_phase: Any) -> None:
        raise RuntimeError("no model")

    host = make_host(startup_task=Task("preload", fail))
    host.initialize()
    host.drain()
