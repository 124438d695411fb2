"""Resources: what is declared, listed and read."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from mcp_protocol.calls.call import Call
from mcp_protocol.resources.resource import MAX_BLOB_BYTES, MAX_READ_BYTES
from tests.mcp_results import LEGACY, MODERN, REVISIONS, Json, check_result
from tests.unit.mcp_protocol.conftest import MakeHost
from tests.unit.mcp_protocol.host import WAIT_S, Host, error_of, modern
from tests.unit.mcp_protocol.resources.requests import ask, result
from tests.unit.mcp_protocol.resources.shelf import BLOB, NOTE, Shelf

METHODS: list[tuple[str, Json]] = [
    ("resources/list", {}),
    ("resources/templates/list", {}),
    ("resources/read", {"uri": NOTE}),
    ("prompts/list", {}),
    ("prompts/get", {"name": "greet", "arguments": {"name": "Ada"}}),
    (
        "completion/complete",
        {"ref": {"type": "ref/prompt", "name": "greet"}, "argument": {"name": "name", "value": ""}},
    ),
]
READS = ("test://texts/", "test://later/")


@pytest.mark.parametrize("version", LEGACY)
def test_legacy_client_is_promised_no_change_of_a_list(host: Host, version: str) -> None:
    assert host.initialize(version)["capabilities"] == {
        "tools": {"listChanged": False},
        "logging": {},
        "resources": {"subscribe": True, "listChanged": False},
        "prompts": {"listChanged": False},
        "completions": {},
        "extensions": {"io.modelcontextprotocol/ui": {"mimeTypes": ["text/html;profile=mcp-app"]}},
    }


def test_modern_client_may_ask_for_changes_of_the_list(host: Host) -> None:
    discovered = check_result("server/discover", MODERN, host.request("server/discover", modern()))
    assert discovered["capabilities"]["resources"] == {"subscribe": True, "listChanged": True}
    assert discovered["capabilities"]["prompts"] == {"listChanged": False}


def test_catalogues_are_loaded_once_and_not_before_somebody_asks(host: Host, shelf: Shelf) -> None:
    host.initialize()
    host.request("server/discover", modern())
    host.request("tools/list")
    host.call("echo", {"text": "x"})
    host.next()
    host.notify("notifications/cancelled", {"requestId": 1})
    assert shelf.n_loads == 0
    for method, params in METHODS:
        host.request(method, params)
    assert shelf.n_loads == 1


def test_catalogues_are_prepared_once_by_the_worker(host: Host, shelf: Shelf) -> None:
    host.drain()
    assert shelf.prepared_by == []
    for method, params in METHODS:
        host.request(method, params)
    host.drain()
    assert shelf.prepared_by == ["worker"]


@pytest.mark.parametrize("version", REVISIONS)
@pytest.mark.parametrize(("method", "params"), METHODS)
def test_each_method_is_answered_in_each_revision(host: Host, version: str, method: str, params: Json) -> None:
    answer = result(host, version, method, params)
    assert ("resultType" in answer) == (version == MODERN)
    assert ("ttlMs" in answer) == (version == MODERN and method not in ("prompts/get", "completion/complete"))


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("resources/subscribe", modern(uri=NOTE)),
        ("resources/unsubscribe", modern(uri=NOTE)),
        ("resources/nothing", {}),
        ("prompts/nothing", modern()),
        ("subscriptions/", {}),
    ],
)
def test_method_of_the_other_era_or_of_none_is_unknown(host: Host, method: str, params: Json) -> None:
    assert error_of(host.request(method, params)) == (-32601, f"Method not found: {method}")


def test_defect_of_a_catalogue_is_an_internal_error_without_its_details(host: Host, shelf: Shelf) -> None:
    shelf.broken = True
    assert error_of(host.request("resources/list")) == (-32603, "Internal error")
    host.assert_silent()


def test_resources_are_listed_as_they_are_now(host: Host, shelf: Shelf) -> None:
    listed = result(host, MODERN, "resources/list", {})
    assert listed["resources"][0] == {
        "uri": NOTE,
        "name": "note",
        "title": "A note",
        "description": "Always there.",
        "mimeType": "text/plain",
        "size": 5,
    }
    assert listed["resources"][1] == {"uri": "test://texts/one", "name": "one"}
    assert (listed["ttlMs"], listed["cacheScope"]) == (0, "private")
    shelf.texts.clear()
    assert len(result(host, MODERN, "resources/list", {})["resources"]) == 1


def test_templates_are_listed(host: Host) -> None:
    listed = result(host, MODERN, "resources/templates/list", {})
    assert sorted(row["uriTemplate"] for row in listed["resourceTemplates"]) == [
        "test://later/{name}",
        "test://texts/{name}",
    ]
    assert listed["cacheScope"] == "public"


@pytest.mark.parametrize("version", REVISIONS)
@pytest.mark.parametrize("begin", READS)
def test_text_and_bytes_are_read(host: Host, version: str, begin: str) -> None:
    text = result(host, version, "resources/read", {"uri": f"{begin}one"})
    assert text["contents"] == [{"uri": f"{begin}one", "mimeType": "text/plain", "text": "1"}]
    blob = result(host, version, "resources/read", {"uri": f"{begin}bytes"})
    assert base64.b64decode(blob["contents"][0]["blob"], validate=True) == BLOB


def test_how_long_contents_may_be_kept_is_the_kinds_own(host: Host) -> None:
    note = result(host, MODERN, "resources/read", {"uri": NOTE})
    assert (note["ttlMs"], note["cacheScope"]) == (1000, "public")
    for begin in READS:
        text = result(host, MODERN, "resources/read", {"uri": f"{begin}one"})
        assert (text["ttlMs"], text["cacheScope"]) == (0, "private")


@pytest.mark.parametrize("version", REVISIONS)
@pytest.mark.parametrize(
    "uri",
    [
        "test://texts/none",
        "test://later/none",
        "test://note/",
        "test://note2",
        "test://",
        "file:///etc/passwd",
        "",
        "no URI",
        "TEST://note",
        "test://texts/\x00",
        "test://texts/\ud800",
        "\u202e" * 50,
    ],
)
def test_what_is_not_there_is_an_error_with_its_uri(host: Host, version: str, uri: str) -> None:
    answer = ask(host, version, "resources/read", {"uri": uri})
    assert error_of(answer) == (-32602 if version == MODERN else -32002, "Resource not found")
    assert answer["error"]["data"] == {"uri": uri.replace("\ud800", "\ufffd")}
    host.assert_silent()


def test_endless_uri_is_echoed_only_in_part(host: Host) -> None:
    answer = host.request("resources/read", {"uri": "test://texts/" + "x" * 1_000_000})
    assert error_of(answer)[0] == -32002
    assert len(json.dumps(answer)) < 10_000


@pytest.mark.parametrize("uri", [None, 5, [], {}, True])
def test_uri_must_be_a_string(host: Host, uri: Any) -> None:
    assert error_of(host.request("resources/read", {"uri": uri})) == (-32602, "Invalid params: uri must be a string")


@pytest.mark.parametrize("begin", READS)
@pytest.mark.parametrize(
    ("data", "fits"),
    [
        pytest.param(b"\0" * MAX_BLOB_BYTES, True, id="bytes at the limit"),
        pytest.param(b"\0" * (MAX_BLOB_BYTES + 1), False, id="bytes above it"),
        pytest.param("x" * (MAX_READ_BYTES - 200), True, id="text at the limit"),
        pytest.param("x" * MAX_READ_BYTES, False, id="text above it"),
        pytest.param("é" * (MAX_READ_BYTES // 4), False, id="text above it when escaped"),
    ],
)
def test_too_large_contents_are_an_error_that_says_where_they_are(
    host: Host, shelf: Shelf, begin: str, data: str | bytes, fits: bool
) -> None:
    shelf.texts["large"] = data
    host.send("resources/read", modern(uri=f"{begin}large"))
    line = host.wire.lines.get(timeout=WAIT_S)
    answer = json.loads(line)
    if fits:
        assert len(line) < MAX_READ_BYTES + 1000
        check_result("resources/read", MODERN, answer)
    else:
        assert error_of(answer) == (-32603, "The resource is too large for one message. It lies at /shelf/large.")
        assert answer["error"]["data"] == {"uri": f"{begin}large"}


@pytest.mark.parametrize("begin", READS)
def test_defect_in_reading_is_an_internal_error(host: Host, begin: str) -> None:
    code, message = error_of(host.request("resources/read", {"uri": f"{begin}broken"}))
    assert code == -32603
    assert "0x7f00" not in message
    host.drain()


def test_contents_of_the_worker_are_read_in_their_turn(host: Host, shelf: Shelf) -> None:
    host.call("wait", request_id="w")
    assert host.gates.running.wait(WAIT_S)
    assert host.request("resources/read", {"uri": "test://texts/one"}, "at once")["result"]["contents"]
    host.send("resources/read", {"uri": "test://later/one"}, "later")
    host.assert_silent()
    shelf.texts["one"] = "changed meanwhile"
    host.gates.go_on.set()
    assert host.next()["id"] == "w"
    answer = host.next()
    assert answer["id"] == "later"
    assert answer["result"]["contents"][0]["text"] == "changed meanwhile"
    assert shelf.readers[1:] == ["worker"]
    assert shelf.readers[0] != "worker"


def test_cancelled_read_gets_no_answer(host: Host, shelf: Shelf) -> None:
    host.call("wait", request_id="w")
    assert host.gates.running.wait(WAIT_S)
    host.send("resources/read", modern(uri="test://later/one"), "later")
    host.notify("notifications/cancelled", {"requestId": "later"})
    host.gates.go_on.set()
    assert host.next()["id"] == "w"
    host.drain()
    assert shelf.readers == []


def test_read_that_waits_past_its_deadline_is_answered_with_an_error(make_host: MakeHost, shelf: Shelf) -> None:
    host = make_host(load_resources=shelf.resource_registry, call_timeout_s=0.001)
    host.call("load", request_id="l")
    assert host.gates.running.wait(WAIT_S)
    host.send("resources/read", {"uri": "test://later/one"}, "later")
    overdue: list[tuple[Call, str]] = []
    while len(overdue) < 2:
        overdue += list(host.server.queue.overdue())
    for call, text in overdue:
        host.server.fail(call, text)
    assert host.next()["id"] == "l"
    answer = host.next()
    assert answer["id"] == "later"
    code, message = error_of(answer)
    assert code == -32603
    assert "still loading" in message
    assert answer["error"]["data"] == {"uri": "test://later/one"}


def test_read_at_the_end_of_the_server_is_answered_with_an_error(host: Host) -> None:
    host.call("wait", request_id="w")
    assert host.gates.running.wait(WAIT_S)
    host.send("resources/read", {"uri": "test://later/one"}, "later")
    for call in host.server.queue.stop(WAIT_S):
        host.server.fail(call, "The server is shutting down; this call was not finished.")
    answers = {answer["id"]: answer for answer in (host.next(), host.next())}
    assert error_of(answers["later"])[0] == -32603
