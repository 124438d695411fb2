"""Who is told of which changes, and that nobody is told anything unasked."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_protocol.resources.subscriptions import MAX_LISTENS, MAX_SUBSCRIPTIONS
from tests.mcp_results import LEGACY, MODERN, Json, check_notification, check_result
from tests.unit.mcp_protocol.host import NO_ID, Host, error_of, modern
from tests.unit.mcp_protocol.resources.changes import change, listen
from tests.unit.mcp_protocol.resources.shelf import Shelf

ONE, TWO, LATER, NEVER = "test://texts/one", "test://texts/two", "test://texts/later", "test://texts/never"
UPDATED = "notifications/resources/updated"
LIST_CHANGED = "notifications/resources/list_changed"


@pytest.mark.parametrize("version", LEGACY)
def test_client_that_only_initialized_hears_nothing_of_changes(host: Host, shelf: Shelf, version: str) -> None:
    host.initialize(version)
    for method in ("resources/list", "tools/list"):
        host.request(method)
    assert change(host, shelf, one="new", three="3") == []


def test_modern_client_without_a_stream_hears_nothing_of_changes(host: Host, shelf: Shelf) -> None:
    host.request("server/discover", modern())
    host.request("resources/read", modern(uri=ONE))
    assert change(host, shelf, one="new", three="3") == []


@pytest.mark.parametrize("version", LEGACY)
def test_legacy_subscriber_is_told_of_its_resource_alone(host: Host, shelf: Shelf, version: str) -> None:
    host.initialize(version)
    answer = host.request("resources/subscribe", {"uri": ONE})
    assert check_result("resources/subscribe", version, answer) == {}
    assert change(host, shelf, two="new", three="3") == []
    (message,) = change(host, shelf, one="new")
    assert check_notification(UPDATED, version, message) == {"uri": ONE}
    assert change(host, shelf) == []


def test_each_change_is_told_once_however_often_one_subscribed(host: Host, shelf: Shelf) -> None:
    host.initialize()
    for uri in (ONE, ONE, TWO):
        assert host.request("resources/subscribe", {"uri": uri})["result"] == {}
    messages = change(host, shelf, one="new", two="new")
    assert [message["params"]["uri"] for message in messages] == [ONE, TWO]


def test_resource_may_come_and_go(host: Host, shelf: Shelf) -> None:
    host.initialize()
    host.request("resources/subscribe", {"uri": LATER})
    assert len(change(host, shelf, later="here")) == 1
    del shelf.texts["later"]
    assert len(change(host, shelf)) == 1


def test_unsubscribing_ends_it_and_may_be_repeated(host: Host, shelf: Shelf) -> None:
    host.initialize()
    host.request("resources/subscribe", {"uri": ONE})
    for _ in range(2):
        answer = host.request("resources/unsubscribe", {"uri": ONE})
        assert check_result("resources/unsubscribe", "2025-11-25", answer) == {}
    assert change(host, shelf, one="new") == []


def test_another_handshake_begins_another_session(host: Host, shelf: Shelf) -> None:
    host.initialize()
    host.request("resources/subscribe", {"uri": ONE})
    host.initialize()
    assert change(host, shelf, one="new") == []


def test_subscribing_before_the_handshake_is_refused(host: Host, shelf: Shelf) -> None:
    code, message = error_of(host.request("resources/subscribe", {"uri": ONE}))
    assert code == -32600
    assert "initialize" in message
    assert change(host, shelf, one="new") == []


@pytest.mark.parametrize("uri", [NEVER, "test://nothing", "", "file:///etc/passwd"])
def test_subscribing_to_what_can_never_be_is_refused(host: Host, uri: str) -> None:
    host.initialize()
    assert error_of(host.request("resources/subscribe", {"uri": uri})) == (-32002, "Resource not found")


@pytest.mark.parametrize("method", ["resources/subscribe", "resources/unsubscribe"])
@pytest.mark.parametrize("params", [{}, {"uri": None}, {"uri": 5}, {"uri": [ONE]}])
def test_subscribing_without_a_uri_is_an_error(host: Host, method: str, params: Json) -> None:
    host.initialize()
    assert error_of(host.request(method, params))[0] == -32602


def test_subscriptions_are_bounded(host: Host) -> None:
    host.initialize()
    for number in range(MAX_SUBSCRIPTIONS):
        host.request("resources/subscribe", {"uri": f"test://texts/{number}"})
    assert error_of(host.request("resources/subscribe", {"uri": ONE}))[0] == -32602
    assert host.request("resources/subscribe", {"uri": "test://texts/0"})["result"] == {}


def test_stream_is_acknowledged_with_what_it_will_carry(host: Host) -> None:
    honoured = listen(
        host,
        toolsListChanged=True,
        promptsListChanged=True,
        resourcesListChanged=True,
        resourceSubscriptions=[ONE, NEVER, LATER, ONE, "test://nothing"],
        somethingNew=True,
    )
    assert honoured == {"resourcesListChanged": True, "resourceSubscriptions": [ONE, LATER]}
    host.assert_silent()


@pytest.mark.parametrize("wanted", [{}, {"resourcesListChanged": False}, {"resourcesListChanged": 1}])
def test_stream_that_wants_nothing_gets_nothing(host: Host, shelf: Shelf, wanted: Json) -> None:
    assert listen(host, **wanted) == {}
    assert change(host, shelf, one="new", three="3") == []


@pytest.mark.parametrize("request_id", [0, "", 7, "listen:0"])
def test_stream_carries_changes_under_its_id(host: Host, shelf: Shelf, request_id: Any) -> None:
    listen(host, request_id, resourceSubscriptions=[ONE], resourcesListChanged=True)
    messages = change(host, shelf, one="new", two="new", three="3")
    meta = {"io.modelcontextprotocol/subscriptionId": request_id}
    assert check_notification(UPDATED, MODERN, messages[0]) == {"_meta": meta, "uri": ONE}
    assert check_notification(LIST_CHANGED, MODERN, messages[1]) == {"_meta": meta}
    assert len(messages) == 2
    assert change(host, shelf) == []


def test_changed_contents_are_no_change_of_the_list(host: Host, shelf: Shelf) -> None:
    listen(host, resourcesListChanged=True)
    assert change(host, shelf, one="new") == []
    assert len(change(host, shelf, three="3")) == 1


def test_streams_and_legacy_subscriptions_are_apart(host: Host, shelf: Shelf) -> None:
    host.initialize()
    host.request("resources/subscribe", {"uri": ONE})
    listen(host, "a", resourceSubscriptions=[ONE])
    listen(host, "b", resourceSubscriptions=[TWO])
    messages = change(host, shelf, one="new")
    assert [message["params"].get("_meta") for message in messages] == [
        None,
        {"io.modelcontextprotocol/subscriptionId": "a"},
    ]
    host.request("resources/unsubscribe", {"uri": ONE})
    assert len(change(host, shelf, one="newer")) == 1


def test_cancelled_stream_is_silent_for_ever(host: Host, shelf: Shelf) -> None:
    listen(host, resourceSubscriptions=[ONE])
    host.notify("notifications/cancelled", {"requestId": "listen:0"})
    assert change(host, shelf, one="new") == []
    host.server.end_subscriptions()
    host.assert_silent()
    assert listen(host, resourceSubscriptions=[ONE]) == {"resourceSubscriptions": [ONE]}


def test_what_changed_before_the_cancelling_is_told(host: Host, shelf: Shelf) -> None:
    listen(host, resourceSubscriptions=[ONE])
    shelf.texts["one"] = "new"
    host.notify("notifications/cancelled", {"requestId": "listen:0"})
    assert check_notification(UPDATED, MODERN, host.next())["uri"] == ONE
    assert change(host, shelf, one="newer") == []


@pytest.mark.parametrize("other", ["0", 0.0, False, None, "", [0], {}])
def test_cancelling_another_id_ends_no_stream(host: Host, shelf: Shelf, other: Any) -> None:
    listen(host, 0, resourceSubscriptions=[ONE])
    host.notify("notifications/cancelled", {"requestId": other})
    assert len(change(host, shelf, one="new")) == 1


def test_open_streams_are_answered_when_the_server_ends(host: Host, shelf: Shelf) -> None:
    for request_id in ("a", 0):
        listen(host, request_id, resourcesListChanged=True)
    host.server.end_subscriptions()
    for request_id in ("a", 0):
        answer = host.next()
        assert answer["id"] == request_id
        result = check_result("subscriptions/listen", MODERN, answer)
        assert result["_meta"]["io.modelcontextprotocol/subscriptionId"] == request_id
        assert "io.modelcontextprotocol/serverInfo" in result["_meta"]
    assert change(host, shelf, three="3") == []
    host.server.end_subscriptions()
    host.assert_silent()


@pytest.mark.parametrize(
    "wanted",
    [None, [], "all", {"resourceSubscriptions": ONE}, {"resourceSubscriptions": [5]}, {"resourceSubscriptions": {}}],
)
def test_malformed_filter_is_an_error(host: Host, wanted: Any) -> None:
    assert error_of(host.request("subscriptions/listen", modern(notifications=wanted)))[0] == -32602
    assert error_of(host.request("subscriptions/listen", modern()))[0] == -32602


def test_stream_needs_an_id_that_no_open_stream_has(host: Host) -> None:
    params = modern(notifications={"resourcesListChanged": True})
    assert error_of(host.request("subscriptions/listen", params, NO_ID))[0] == -32600
    listen(host, "a", resourcesListChanged=True)
    assert error_of(host.request("subscriptions/listen", params, "a"))[0] == -32600


def test_streams_are_bounded(host: Host) -> None:
    for number in range(MAX_LISTENS):
        listen(host, number)
    params = modern(notifications={})
    assert error_of(host.request("subscriptions/listen", params, "one more"))[0] == -32602
    host.notify("notifications/cancelled", {"requestId": 5})
    listen(host, "one more")


def test_more_resources_than_the_bound_are_not_honoured(host: Host) -> None:
    uris = [f"test://texts/{number}" for number in range(MAX_SUBSCRIPTIONS + 5)]
    assert listen(host, resourceSubscriptions=uris) == {"resourceSubscriptions": uris[:MAX_SUBSCRIPTIONS]}
