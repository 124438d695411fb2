"""The task that runs when nothing else is to do."""

from __future__ import annotations

import threading
import time
from typing import Any

from mcp_protocol.calls.task import IdleTask, Task
from mcp_protocol.calls.work_queue import WorkQueue
from tests.unit.mcp_protocol.calls.bench import WAIT_S, Bench, begin


def test_idle_task_runs_when_it_is_due_and_nothing_waits(bench: Bench) -> None:
    bench.call(1)
    bench.wait_idle(1)
    bench.idle_due_s = time.monotonic() + 0.05
    bench.call(2)  # what an item does may set the moment
    bench.wait_idle(2)
    assert bench.done == [1, 2, "rest"]
    assert time.monotonic() >= bench.idle_due_s


def test_idle_task_never_runs_during_a_call_nor_before_one_that_waits(bench: Bench) -> None:
    bench.idle_due_s = time.monotonic() - 1
    bench.call(1, "stubborn")
    bench.call(2)
    assert bench.running.wait(WAIT_S)
    assert bench.done == []
    bench.gate.set()
    bench.wait_idle(3)
    assert bench.done == [1, 2, "rest"]


def test_idle_task_runs_once_until_another_item_has_run(bench: Bench) -> None:
    bench.idle_due_s = time.monotonic() - 1  # and stays there, as when the task achieved nothing
    bench.call(1)
    bench.wait_idle(2)
    assert not bench.idle.acquire(timeout=0.05)
    bench.call(2)
    bench.wait_idle(2)
    assert bench.done == [1, "rest", 2, "rest"]


def test_call_that_arrives_while_the_queue_rests_is_served_after_it(bench: Bench) -> None:
    resting = threading.Event()

    def rest(enter_phase: Any) -> None:
        resting.set()
        assert bench.gate.wait(WAIT_S)
        bench.done.append("rest")

    work_queue = WorkQueue(
        bench._run_call, lambda task: task.run(), bench.idle.release, IdleTask(Task("rest", rest), lambda: 0)
    )
    bench.queue = work_queue
    bench.call(1)
    assert resting.wait(WAIT_S)
    bench.call(2, timeout_s=5, arrived_ago_s=4)
    bench.gate.set()
    bench.wait_idle(4)
    assert bench.done == [1, "rest", 2, "rest"]


def test_queue_without_a_moment_never_rests(bench: Bench) -> None:
    bench.call(1)
    bench.wait_idle(1)
    assert not bench.idle.acquire(timeout=0.05)
    assert bench.done == [1]


def test_idle_task_waits_until_nothing_runs_and_is_waited_for(wide: Bench) -> None:
    wide.idle_due_s = time.monotonic() - 1
    begin(wide, 1, 2)
    wide.call(3)
    wide.wait_idle(1)
    assert wide.done == [3]
    wide.gate.set()
    wide.wait_idle(3)
    assert wide.done[-1] == "rest"
    assert not wide.idle.acquire(timeout=0.05)
    wide.call(4)
    wide.wait_idle(2)
    assert wide.done[-2:] == [4, "rest"]


def test_idle_task_is_not_due_any_more_when_others_have_worked_meanwhile(wide: Bench) -> None:
    wide.idle_due_s = time.monotonic() + 1
    begin(wide, 1)
    wide.call(2)
    wide.wait_idle(1)
    wide.gate.set()
    wide.wait_idle(1)
    wide.idle_due_s = time.monotonic() + 60  # the model was used
    time.sleep(1.2)
    assert sorted(wide.done) == [1, 2]


def test_idle_task_runs_again_for_what_is_due_later(bench: Bench) -> None:
    now_s = time.monotonic()
    due_s = [now_s - 2, now_s - 1, now_s - 1]

    def rest(enter_phase: Any) -> None:
        bench.done.append("rest")
        del due_s[0]

    idle_task = IdleTask(Task("rest", rest), lambda: due_s[0] if due_s else None)
    bench.queue = WorkQueue(bench._run_call, lambda task: task.run(), bench.idle.release, idle_task)
    bench.call(1)
    bench.wait_idle(3)
    assert not bench.idle.acquire(timeout=0.05), "the last one is due no later than the one before"
    assert bench.done == [1, "rest", "rest"]
