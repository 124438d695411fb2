"""Tool calls as tasks: in the form of revision 2025-11-25, and as the extension of 2026-07-28."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from mcp_types.methods import validate_server_result

from mcp_protocol.calls.call import Call
from mcp_protocol.calls.deferred import Deferred
from mcp_protocol.connection import Connection
from mcp_protocol.tasks import methods, tasks
from mcp_protocol.tools.toolbox import Tool, Toolbox, text_block
from mcp_protocol.versions import META_CAPABILITIES, TASKS
from tests.mcp_results import MODERN, Json, check_result
from tests.unit.mcp_protocol.host import TOOLS, Gates, Host, NoArguments, error_of, modern
from tests.waiting import wait_until

DECLARED: Json = {META_CAPABILITIES: {"extensions": {TASKS: {}}}}
TTL_S = 600.0
FIELDS = {"taskId", "status", "createdAt", "lastUpdatedAt", "ttl", "pollInterval"}
"""Of a task in revision 2025-11-25; the official Python types have none of its methods."""
INVALID, UNKNOWN_METHOD, INTERNAL, MISSING = -32602, -32601, -32603, -32021


class Work:
    """Work that the test ends."""

    def __init__(self) -> None:
        self.fails = self.cancelled = False
        self.callbacks: list[Any] = []

    def status(self) -> str:
        return "half done"

    def was_cancelled(self) -> bool:
        return self.cancelled

    def cancel(self) -> None:
        self.cancelled = True
        self.end()

    def on_end(self, callback: Any) -> None:
        self.callbacks.append(callback)

    def report(self) -> list[Json]:
        if self.fails:
            raise ValueError
        return [text_block("made")]

    def end(self) -> None:
        while self.callbacks:
            self.callbacks.pop()()


class TaskHost(Host):
    """A host whose server has a tool that makes a job."""

    def __init__(self, **options: Any) -> None:
        self.works: list[Work] = []
        super().__init__(**{"task_ttl_s": TTL_S, **options})

    def _toolbox(self) -> Toolbox:
        def make(arguments: NoArguments, call: Call, gates: Gates) -> list[Json]:
            if call.task is None:
                return [text_block("made")]
            self.works.append(Work())
            raise Deferred(self.works[-1])

        maker = Tool("make", "Make", "Makes a job.", NoArguments, make, task_support="optional")
        must = Tool("must", "Must", "Is a task.", NoArguments, make, task_support="required")
        return Toolbox((*TOOLS, maker, must), self.gates, lambda error: "Something went wrong.")

    def begin(self, **task: Any) -> Json:
        """Begins a task in the form of 2025-11-25; the task, once its work goes on."""
        n_works = len(self.works)
        created: Json = self.request("tools/call", {"name": "make", "arguments": {}, "task": task})["result"]["task"]
        wait_until(lambda: len(self.works) > n_works and bool(self.works[-1].callbacks))
        return created

    def state(self, task_id: str) -> Json:
        """A task in the form of 2025-11-25."""
        told: Json = self.request("tasks/get", {"taskId": task_id})["result"]
        assert FIELDS <= set(told) <= FIELDS | {"statusMessage"}
        return told

    def modern(self, method: str, **params: Any) -> Json:
        """A request of a client with the extension."""
        return self.request(method, modern(DECLARED, **params))

    def wait_until_over(self, task_id: str) -> Json:
        """The task in the modern form, once it is over."""
        until_s = time.monotonic() + 5
        while (told := self.modern("tasks/get", taskId=task_id)["result"])["status"] == "working":
            assert time.monotonic() < until_s
            time.sleep(0.01)
        return dict(told)


@pytest.fixture
def host() -> Iterator[TaskHost]:
    host = TaskHost()
    host.initialize()
    yield host
    host.gates.go_on.set()


def test_capability_is_declared_where_it_exists() -> None:
    host = TaskHost()
    declared: Json = {"list": {}, "cancel": {}, "requests": {"tools": {"call": {}}}}
    assert host.initialize()["capabilities"]["tasks"] == declared
    assert "tasks" not in host.initialize("2025-06-18")["capabilities"]
    discovered = host.request("server/discover", modern())["result"]["capabilities"]
    assert discovered["extensions"][TASKS] == {}
    assert "tasks" not in discovered


def test_server_without_tasks_has_no_trace_of_them() -> None:
    host = TaskHost(task_ttl_s=None)
    assert "tasks" not in host.initialize()["capabilities"]
    assert "execution" not in str(host.request("tools/list"))
    assert error_of(host.request("tasks/list"))[0] == UNKNOWN_METHOD
    assert host.request("tools/call", {"name": "make", "arguments": {}, "task": {}})["result"]["isError"] is False


def test_tools_say_in_one_revision_whether_they_work_as_tasks(host: TaskHost) -> None:
    listed = check_result("tools/list", "2025-11-25", host.request("tools/list"))["tools"]
    support = {tool["name"]: tool["execution"]["taskSupport"] for tool in listed if "execution" in tool}
    assert support == {"make": "optional", "must": "required"}
    for version in ("2025-06-18", "2025-03-26", "2024-11-05"):
        host.initialize(version)
        assert "execution" not in str(host.request("tools/list"))
        answer = host.request("tools/call", {"name": "make", "arguments": {}, "task": {}})
        assert answer["result"]["content"] == [text_block("made")]
        assert error_of(host.request("tasks/list"))[0] == UNKNOWN_METHOD
    assert "execution" not in str(host.request("tools/list", modern()))


def test_task_answers_at_once_and_its_result_is_that_of_the_call(host: TaskHost) -> None:
    created = host.begin(ttl=1)
    assert (created["status"], created["ttl"] >= TTL_S * 1e3) == ("working", True)
    assert host.state(created["taskId"])["statusMessage"] == "half done"
    host.send("tasks/result", {"taskId": created["taskId"]}, "result")
    host.assert_silent()
    host.works[0].end()
    answer = host.next()
    assert answer["id"] == "result"
    related = {"io.modelcontextprotocol/related-task": {"taskId": created["taskId"]}}
    plain = host.request("tools/call", {"name": "make", "arguments": {}})["result"]
    assert answer["result"] == {**plain, "_meta": related}
    assert host.state(created["taskId"])["status"] == "completed"
    again = host.request("tasks/result", {"taskId": created["taskId"]}, "again")
    assert again["result"] == answer["result"]


def test_worker_is_free_while_a_task_is_waited_for(host: TaskHost) -> None:
    created = host.begin()
    host.send("tasks/result", {"taskId": created["taskId"]}, "result")
    host.call("echo", {"text": "free"}, 7)
    assert host.next()["id"] == 7
    assert not host.server.drained
    host.works[0].end()
    assert host.next()["id"] == "result"
    assert host.server.drained


def test_failed_tool_is_a_failed_task_only_in_the_first_form(host: TaskHost) -> None:
    created = host.begin()
    host.works[0].fails = True
    host.works[0].end()
    told = host.wait_until_over(created["taskId"])
    assert (told["status"], told["result"]["isError"]) == ("completed", True)
    assert host.state(created["taskId"])["status"] == "failed"
    answer = host.request("tasks/result", {"taskId": created["taskId"]})
    assert answer["result"]["content"] == [text_block("Something went wrong.")]


def test_bad_arguments_end_the_task(host: TaskHost) -> None:
    params = {"name": "make", "arguments": {"x": 1}, "task": {}}
    created = host.request("tools/call", params)["result"]["task"]
    answer = host.request("tasks/result", {"taskId": created["taskId"]})
    assert "arguments.x" in answer["result"]["content"][0]["text"]


def test_cancelled_task_stays_cancelled(host: TaskHost) -> None:
    created = host.begin()
    answer = host.request("tasks/cancel", {"taskId": created["taskId"]})
    assert answer["result"]["status"] == "cancelled"
    assert host.works[0].cancelled
    code, text = error_of(host.request("tasks/cancel", {"taskId": created["taskId"]}))
    assert (code, "cancelled" in text) == (INVALID, True)
    assert "result" in host.request("tasks/result", {"taskId": created["taskId"]})
    assert host.state(created["taskId"])["status"] == "cancelled"


def test_task_that_waits_in_the_queue_is_cancelled_there(host: TaskHost) -> None:
    host.call("wait", request_id="busy")
    created = host.request("tools/call", {"name": "make", "arguments": {}, "task": {}})["result"]["task"]
    assert host.request("tasks/cancel", {"taskId": created["taskId"]})["result"]["status"] == "cancelled"
    answer = host.request("tasks/result", {"taskId": created["taskId"]})
    assert answer["result"]["isError"] is True
    host.gates.go_on.set()
    assert host.next()["id"] == "busy"
    host.wait_until_idle()
    assert host.works == []


def test_cancelling_the_wait_leaves_the_task(host: TaskHost) -> None:
    created = host.begin()
    host.send("tasks/result", {"taskId": created["taskId"]}, 5)
    host.notify("notifications/cancelled", {"requestId": 5})
    host.works[0].end()
    assert host.wait_until_over(created["taskId"])["status"] == "completed"
    host.assert_silent()


@pytest.mark.parametrize("task", [5, [], {"ttl": "x"}, {"ttl": -1}, {"ttl": True}])
def test_wrong_wish_is_refused(host: TaskHost, task: Any) -> None:
    code, text = error_of(host.request("tools/call", {"name": "make", "arguments": {}, "task": task}))
    assert (code, "task" in text) == (INVALID, True)


def test_tool_and_wish_must_fit(host: TaskHost) -> None:
    assert error_of(host.request("tools/call", {"name": "echo", "arguments": {}, "task": {}}))[0] == UNKNOWN_METHOD
    assert error_of(host.request("tools/call", {"name": "must", "arguments": {}}))[0] == UNKNOWN_METHOD
    code, _ = error_of(host.request("tools/call", modern(name="must", arguments={})))
    assert code == MISSING


def test_wish_is_read_in_a_long_message_too(host: TaskHost) -> None:
    arguments = {"x": "y" * 10_000}
    answer = host.request("tools/call", {"name": "make", "arguments": arguments, "task": {}})
    assert answer["result"]["task"]["status"] == "working"


@pytest.mark.parametrize("method", ["tasks/get", "tasks/result", "tasks/cancel"])
@pytest.mark.parametrize("task_id", ["task_x", "", 5, None])
def test_unknown_tasks_are_refused(host: TaskHost, method: str, task_id: Any) -> None:
    assert error_of(host.request(method, {"taskId": task_id}))[0] == INVALID


def test_list_is_paged_and_newest_first(host: TaskHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mcp_protocol.pages.PAGE_ITEMS", 2)
    made = [host.begin()["taskId"] for _ in range(3)]
    first = host.request("tasks/list")["result"]
    rest = host.request("tasks/list", {"cursor": first["nextCursor"]})["result"]
    assert [task["taskId"] for task in first["tasks"] + rest["tasks"]] == made[::-1]
    assert "nextCursor" not in rest
    assert error_of(host.request("tasks/list", {"cursor": "x"}))[0] == INVALID


def test_tasks_outlive_their_connection_for_their_owner_alone(host: TaskHost) -> None:
    created = host.begin()
    host.server.forget(host.connection)
    host.works[0].end()
    host.connection = Connection(host.wire, owner=0)
    host.initialize()
    assert host.wait_until_over(created["taskId"])["result"]["content"] == [text_block("made")]
    host.connection = Connection(host.wire, owner=1)
    host.initialize()
    assert error_of(host.request("tasks/get", {"taskId": created["taskId"]}))[0] == INVALID
    assert host.request("tasks/list")["result"]["tasks"] == []


def test_expired_tasks_are_forgotten() -> None:
    host = TaskHost(task_ttl_s=0.0)
    host.initialize()
    created = host.begin()
    host.works[0].end()
    wait_until(lambda: "error" in host.request("tasks/get", {"taskId": created["taskId"]}))


def test_too_many_tasks_are_refused_and_none_is_lost(host: TaskHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "MAX_TASKS", 1)
    created = host.begin()
    code, text = error_of(host.request("tools/call", {"name": "make", "arguments": {}, "task": {}}))
    assert (code, text) == (INTERNAL, methods.TOO_MANY)
    answer = host.modern("tools/call", name="make", arguments={})
    assert answer["result"]["content"] == [text_block("made")]
    assert host.state(created["taskId"])["status"] == "working"


def test_open_waits_end_with_the_server(host: TaskHost) -> None:
    created = host.begin()
    host.send("tasks/result", {"taskId": created["taskId"]}, 3)
    host.server.end_subscriptions()
    assert error_of(host.next())[0] == INTERNAL


def test_extension_makes_tasks_of_calls_that_make_jobs(host: TaskHost) -> None:
    created = host.modern("tools/call", name="make", arguments={})["result"]
    assert (created["resultType"], created["status"]) == ("task", "working")
    assert created["ttlMs"] >= TTL_S * 1e3
    assert {"result", "error", "task", "ttl", "pollInterval"}.isdisjoint(created)
    told = host.modern("tasks/get", taskId=created["taskId"])["result"]
    assert (told["resultType"], told["status"]) == ("complete", "working")
    wait_until(lambda: bool(host.works and host.works[0].callbacks))
    host.works[0].end()
    told = host.wait_until_over(created["taskId"])
    plain = check_result("tools/call", MODERN, host.request("tools/call", modern(name="make", arguments={})))
    assert told["result"] == plain
    assert host.modern("tools/call", name="echo", arguments={"text": "x"})["result"]["resultType"] == "complete"


def test_each_form_shows_the_tasks_of_the_other_in_its_own_way(host: TaskHost) -> None:
    created = host.modern("tools/call", name="make", arguments={})["result"]
    wait_until(lambda: bool(host.works and host.works[0].callbacks))
    host.works[0].end()
    result = host.request("tasks/result", {"taskId": created["taskId"]})["result"]
    assert "resultType" not in result
    validate_server_result("tools/call", "2025-11-25", result)
    task_id = host.begin()["taskId"]
    host.works[-1].end()
    modern_result = host.wait_until_over(task_id)["result"]
    assert modern_result["resultType"] == "complete"
    validate_server_result("tools/call", MODERN, modern_result)


def test_extension_cancels_twice_and_takes_input_that_nobody_asked_for(host: TaskHost) -> None:
    created = host.modern("tools/call", name="make", arguments={})["result"]
    wait_until(lambda: bool(host.works and host.works[0].callbacks))
    update = host.modern("tasks/update", taskId=created["taskId"], inputResponses={"x": {}})["result"]
    assert update["resultType"] == "complete"
    for _ in range(2):
        cancelled = host.modern("tasks/cancel", taskId=created["taskId"])["result"]
        assert set(cancelled) == {"resultType", "_meta"}
    assert host.modern("tasks/get", taskId=created["taskId"])["result"]["status"] == "cancelled"
    assert error_of(host.modern("tasks/update", taskId=created["taskId"], inputResponses=5))[0] == INVALID


def test_methods_of_the_extension_need_it(host: TaskHost) -> None:
    for method in ("tasks/get", "tasks/update", "tasks/cancel"):
        answer = host.request(method, modern(taskId="x", inputResponses={}))
        assert answer["error"]["code"] == MISSING
        assert answer["error"]["data"] == {"requiredCapabilities": {"extensions": {TASKS: {}}}}
        assert error_of(host.modern(method, taskId="x", inputResponses={}))[0] == INVALID
    for method in ("tasks/list", "tasks/result"):
        assert error_of(host.modern(method, taskId="x"))[0] == UNKNOWN_METHOD


def test_ids_cannot_be_guessed(host: TaskHost) -> None:
    made = {host.begin()["taskId"] for _ in range(5)}
    assert len(made) == 5
    assert all(len(task_id) == len("task_") + 32 for task_id in made)


def test_too_long_result_of_a_task_is_shortened_with_room_for_the_task() -> None:
    host = TaskHost(max_result_bytes=5_000)
    host.initialize()
    created = host.begin()
    host.works[0].report = lambda: [text_block("x" * 4_500)]  # type: ignore[method-assign]
    host.works[0].end()
    assert "VLLM_MAX_RESULT_BYTES" in host.wait_until_over(created["taskId"])["result"]["content"][0]["text"]
