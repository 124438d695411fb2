"""Several clients of one server: what belongs to one of them never reaches another."""

from __future__ import annotations

import pytest

from mcp_protocol.connection import Connection
from mcp_protocol.jsonrpc import Notification, Request, parse
from tests.mcp_results import Json
from tests.unit.mcp_protocol.conftest import MakeHost
from tests.unit.mcp_protocol.host import WAIT_S, Host, RecordingTransport, modern
from tests.unit.mcp_protocol.resources.shelf import Shelf


class Other:
    """A second client of a host's server."""

    def __init__(self, host: Host) -> None:
        self._server = host.server
        self.wire = RecordingTransport()
        self.connection = Connection(self.wire)

    def send(self, method: str, params: Json | None = None, request_id: object = 1) -> int:
        """Hands in a request; returns how many answers the server means to give."""
        return self._server.handle(Request(request_id, method, params or {}), self.connection, self.wire)

    def cancel(self, request_id: object) -> None:
        """Says that a request is no longer wanted."""
        notification = Notification("notifications/cancelled", {"requestId": request_id})
        self._server.handle(notification, self.connection, self.wire)

    def next(self) -> str:
        """The next line for this client."""
        return self.wire.lines.get(timeout=WAIT_S).decode()


@pytest.fixture
def other(host: Host) -> Other:
    """A second client."""
    return Other(host)


def test_equal_ids_of_two_clients_are_two_calls(host: Host, other: Other) -> None:
    host.call("wait", request_id=7)
    assert host.gates.running.wait(WAIT_S)
    assert other.send("tools/call", {"name": "echo", "arguments": {"text": "theirs"}}, 7) == 1
    host.gates.go_on.set()
    assert host.next()["result"]["content"][0]["text"] == "waited"
    assert "theirs" in other.next()


def test_client_cancels_its_own_calls_alone(host: Host, other: Other) -> None:
    host.call("wait", request_id=7)
    assert host.gates.running.wait(WAIT_S)
    other.send("tools/call", {"name": "echo", "arguments": {"text": "theirs"}}, 7)
    other.cancel(7)
    host.gates.go_on.set()
    assert host.next()["result"]["content"][0]["text"] == "waited"
    host.drain()
    assert other.wire.lines.empty()


def test_what_initialize_settles_holds_for_one_client(host: Host, other: Other) -> None:
    host.initialize("2025-06-18")
    host.request("logging/setLevel", {"level": "debug"})
    assert (other.connection.settled_version, other.connection.initialized) == ("2024-11-05", False)
    other.send("tools/call", {"name": "tell"})
    assert "notifications/message" not in other.next()


def test_client_that_left_waits_for_nothing(host: Host, other: Other) -> None:
    other.send("tools/call", {"name": "wait"}, 1)
    assert host.gates.running.wait(WAIT_S)
    other.send("tools/call", {"name": "echo", "arguments": {"text": "theirs"}}, 2)
    host.call("echo", {"text": "ours"}, 1)
    host.server.forget(other.connection)
    assert host.next()["result"]["structuredContent"]["text"] == "ours"
    assert host.gates.ended.is_set()
    assert other.wire.lines.empty()


def test_changes_are_told_to_who_subscribed(make_host: MakeHost) -> None:
    shelf = Shelf(one="1")
    host = make_host(load_resources=shelf.resource_registry)
    other = Other(host)
    host.initialize()
    host.request("resources/list")
    other.send("subscriptions/listen", modern(notifications={"resourceSubscriptions": ["test://texts/one"]}))
    assert "acknowledged" in other.next()
    shelf.texts["one"] = "2"
    host.drain()
    assert "updated" in other.next()
    host.assert_silent()
    host.server.forget(other.connection)
    shelf.texts["one"] = "3"
    host.drain()
    assert other.wire.lines.empty()


def test_answers_to_a_batch_are_counted(host: Host, other: Other) -> None:
    assert other.send("ping") == 1
    assert other.send("nonsense") == 1
    other.connection.settled_version = "2025-03-26"
    batch = parse(b'[{"id":1,"method":"ping"},{"method":"notifications/x"},3,{"id":2,"method":"initialize"}]')
    assert host.server.handle(batch, other.connection, other.wire) == 3
    assert other.wire.lines.qsize() == 2 + 3
