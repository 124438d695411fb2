"""When changes are looked for, and for whom."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from mcp_protocol.calls.task import Task
from mcp_protocol.connection import NULL_WRITER, Connection, RequestContext
from mcp_protocol.jsonrpc import ProtocolError
from mcp_protocol.resources import subscriptions
from mcp_protocol.resources.subscriptions import MAX_SUBSCRIPTIONS, Subscriptions
from mcp_protocol.versions import Revision
from tests.mcp_results import MODERN
from tests.unit.mcp_protocol.conftest import MakeHost
from tests.unit.mcp_protocol.host import WAIT_S, Host
from tests.unit.mcp_protocol.resources.changes import change, listen
from tests.unit.mcp_protocol.resources.shelf import NOTE, Shelf

ONE, TWO, LATER, NEVER = "test://texts/one", "test://texts/two", "test://texts/later", "test://texts/never"
UPDATED = "notifications/resources/updated"


def test_phases_of_a_call_are_looked_at(host: Host, shelf: Shelf) -> None:
    listen(host, resourceSubscriptions=[ONE])
    shelf.texts["one"] = "loading"
    host.call("load", request_id="l")
    assert host.next()["method"] == UPDATED
    shelf.texts["one"] = "ready"
    host.gates.go_on.set()
    assert host.next()["method"] == UPDATED
    assert host.next()["id"] == "l"
    host.drain()


def test_work_of_the_server_itself_is_looked_at(make_host: MakeHost, shelf: Shelf) -> None:
    go_on = threading.Event()

    def preload(enter_phase: Callable[[str | None], None]) -> None:
        assert go_on.wait(WAIT_S)
        shelf.texts["one"] = "loading"
        enter_phase("loading weights")
        shelf.texts["one"] = "ready"

    host = make_host(load_resources=shelf.resource_registry, startup_task=Task("preload", preload))
    listen(host, resourceSubscriptions=[ONE])
    host.initialize()
    go_on.set()
    assert [host.next()["method"] for _ in range(2)] == [UPDATED, UPDATED]
    host.drain()


def test_dear_look_is_had_beside_the_calls(host: Host, shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first calls still pay for it; those after them do not, and the change is told all the same."""
    cheap_s = 0.005
    monkeypatch.setattr(subscriptions, "CHEAP_CPU_OF_FEW_S", cheap_s)
    host.initialize()
    host.request("resources/subscribe", {"uri": ONE})
    lookers: set[str] = set()
    version = host.server._resource_methods.subscriptions._registry.version  # type: ignore[union-attr]

    def dear(uri: str) -> object:
        lookers.add(threading.current_thread().name)
        until_s = time.thread_time() + 2 * cheap_s
        while time.thread_time() < until_s:
            pass
        return version(uri)

    monkeypatch.setattr(host.server._resource_methods.subscriptions._registry, "version", dear)  # type: ignore[union-attr]
    for request_id in ("first", "second"):
        host.call("echo", {"text": "x"}, request_id)
        assert host.next()["id"] == request_id
        host.drain()
    assert "worker" in lookers
    lookers.clear()
    shelf.texts["one"] = "new"
    for number in range(20):
        host.call("echo", {"text": "x"}, number)
    said = [host.next() for _ in range(21)]
    assert [message["method"] for message in said if "method" in message] == [UPDATED]
    assert "worker" not in lookers


def test_owners_have_quotas_of_their_own(shelf: Shelf) -> None:
    found = Subscriptions(shelf.resource_registry())
    ours, also_ours, theirs = Connection(owner=0), Connection(owner=0), Connection(owner=1)
    for number in range(MAX_SUBSCRIPTIONS):
        found.subscribe(f"test://texts/{number}", ours if number % 2 else also_ours)
    with pytest.raises(ProtocolError, match="at most"):
        found.subscribe(ONE, ours)
    found.subscribe(ONE, theirs)
    context = RequestContext(also_ours, NULL_WRITER, Revision(MODERN))
    found.listen("a", {"resourceSubscriptions": [ONE, TWO]}, context)
    found.unsubscribe("test://texts/0", also_ours)
    found.subscribe(ONE, ours)
    found.forget(ours)
    found.subscribe(TWO, also_ours)


def test_resource_that_cannot_be_looked_at_stops_nothing(host: Host, shelf: Shelf) -> None:
    listen(host, resourceSubscriptions=[ONE, NOTE], resourcesListChanged=True)
    shelf.broken = True
    assert change(host, shelf, one="new") == []
    shelf.broken = False
    assert len(change(host, shelf)) == 1
