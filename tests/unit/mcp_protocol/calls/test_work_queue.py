"""The queue with one worker: order, deadlines, stopping and limits."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from mcp_protocol.calls.scheduling_policy import BYPASS_QUEUE, SchedulingPolicy
from mcp_protocol.calls.task import Task
from mcp_protocol.calls.work_queue import GRACE_S, QueueFull
from tests.unit.mcp_protocol.calls.bench import WAIT_S, Bench, begin


def test_items_run_one_after_another_in_order(bench: Bench) -> None:
    for number in range(20):
        bench.call(number)
    bench.wait_idle(20)
    assert bench.done == list(range(20))


def test_call_is_hurried_as_long_as_one_about_jobs_waits_behind_it(bench: Bench) -> None:
    waiting = bench.call(1, "stubborn")
    assert bench.running.wait(WAIT_S)
    bench.call(2)
    assert not waiting.should_yield()
    is_job_control = bench.call(3, policy=SchedulingPolicy(is_job_control=True))
    assert waiting.should_yield()
    is_job_control.claim_response()  # it was cancelled
    assert not waiting.should_yield()
    bench.call(4, policy=SchedulingPolicy(is_job_control=True))
    assert waiting.should_yield()
    bench.gate.set()
    bench.wait_idle(4)
    assert bench.done == [1, 2, 4]


def test_task_runs_in_its_turn_between_calls(bench: Bench) -> None:
    bench.call(1)
    bench.queue.put(Task("idle work", lambda enter_phase: bench.done.append("task")))
    bench.call(2)
    bench.wait_idle(3)
    assert bench.done == [1, "task", 2]


def test_queue_is_drained_when_every_call_has_its_answer(bench: Bench) -> None:
    assert bench.queue.drained
    bench.call(1, "stubborn")
    bench.call(2)
    assert bench.running.wait(WAIT_S)
    assert not bench.queue.drained
    bench.gate.set()
    bench.wait_idle(2)
    assert bench.queue.drained


def test_task_alone_does_not_count_as_work_to_finish(bench: Bench) -> None:
    def preload(enter_phase: Any) -> None:
        assert bench.gate.wait(WAIT_S)

    bench.queue.put(Task("preload", preload))
    assert bench.queue.drained


def test_cancelled_calls_do_not_keep_the_server_alive(bench: Bench) -> None:
    bench.call(1, "stubborn")
    bench.call(2)
    assert bench.running.wait(WAIT_S)
    assert bench.cancel(1)
    assert bench.cancel(2)
    assert not bench.cancel(2)
    assert bench.queue.drained
    bench.gate.set()
    bench.wait_idle(2)
    assert bench.done == []


def test_without_deadlines_nothing_is_ever_overdue(bench: Bench) -> None:
    bench.call(1, "load")
    bench.call(2)
    assert bench.queue.next_deadline_s() is None
    assert bench.overdue() == []


def test_calls_behind_a_load_are_answered_at_their_deadline_in_order(bench: Bench) -> None:
    for number, tool in enumerate(("load", "note", "note")):
        bench.call(number, tool, timeout_s=5, arrived_ago_s=10)
    bench.call(3, timeout_s=5)
    assert bench.running.wait(WAIT_S)
    answers = bench.overdue()
    assert [request_id for request_id, _ in answers] == [0, 1, 2]
    for _, text in answers:
        assert text == "The server is still loading weights after 0 s. Try again in a moment."
    assert bench.overdue() == []
    bench.gate.set()
    bench.wait_idle(4)
    assert bench.done == [3]


def test_preload_counts_as_a_load_too(bench: Bench) -> None:
    def preload(enter_phase: Any) -> None:
        enter_phase("importing vLLM")
        bench.running.set()
        assert bench.gate.wait(WAIT_S)

    bench.queue.put(Task("preload", preload))
    bench.call(1, timeout_s=5, arrived_ago_s=10)
    assert bench.running.wait(WAIT_S)
    ((_, text),) = bench.overdue()
    assert "still importing vLLM" in text


def test_running_call_may_end_by_itself_a_little_past_its_deadline(bench: Bench) -> None:
    bench.call(1, "stubborn", timeout_s=5, arrived_ago_s=5)
    assert bench.running.wait(WAIT_S)
    assert bench.overdue() == []
    bench.gate.set()
    bench.wait_idle(1)
    assert bench.done == [1]


def test_running_call_that_ignores_its_deadline_is_given_up(bench: Bench) -> None:
    call = bench.call(1, "stubborn", timeout_s=5, arrived_ago_s=5 + GRACE_S + 1)
    assert bench.running.wait(WAIT_S)
    assert bench.overdue() == [(1, "The call did not end at its deadline and was stopped.")]
    assert call.cancellation.is_set()


def test_nothing_is_answered_past_a_call_that_is_still_worked_on(bench: Bench) -> None:
    bench.call(1, "stubborn", timeout_s=5, arrived_ago_s=5.5)
    bench.call(2, timeout_s=5, arrived_ago_s=5.5)
    assert bench.running.wait(WAIT_S)
    assert bench.overdue() == []


def test_call_in_the_queue_of_a_busy_server_is_told_so(bench: Bench) -> None:
    bench.call(1, "stubborn", timeout_s=5, arrived_ago_s=50)
    bench.call(2, timeout_s=5, arrived_ago_s=10)
    assert bench.running.wait(WAIT_S)
    assert [text for _, text in bench.overdue()][1] == (
        "The server is busy with an earlier call. This call was not run. Try again."
    )


def test_main_thread_is_not_woken_before_it_has_something_to_say(bench: Bench) -> None:
    first = bench.call(1, "stubborn", timeout_s=5, arrived_ago_s=5.5)
    bench.call(2, timeout_s=5, arrived_ago_s=5.5)  # overdue, but in line behind the first
    assert bench.running.wait(WAIT_S)
    assert first.deadline_s is not None
    assert bench.queue.next_deadline_s() == first.deadline_s + GRACE_S


def test_next_deadline_is_the_oldest_calls(bench: Bench) -> None:
    first = bench.call(1, "load", timeout_s=60)
    bench.call(2, timeout_s=60)
    assert bench.running.wait(WAIT_S)
    assert bench.queue.next_deadline_s() == first.deadline_s
    assert first.claim_response()
    assert (bench.queue.next_deadline_s() or 0) > (first.deadline_s or 0)


def test_stop_waits_for_a_call_that_obeys_and_claims_the_rest(bench: Bench) -> None:
    bench.call(1, "obedient")
    bench.call(2)
    bench.call(3)
    assert bench.running.wait(WAIT_S)
    left = bench.queue.stop(WAIT_S)
    assert bench.done == [1]
    assert [call.request_id for call in left] == [2, 3]
    assert all(call.is_claimed for call in left)


def test_stop_claims_a_call_that_does_not_obey(bench: Bench) -> None:
    bench.call(1, "stubborn")
    assert bench.running.wait(WAIT_S)
    assert [call.request_id for call in bench.queue.stop(0.01)] == [1]


def test_stop_does_not_wait_for_a_load(bench: Bench) -> None:
    bench.call(1, "load")
    assert bench.running.wait(WAIT_S)
    begin_s = time.monotonic()
    assert [call.request_id for call in bench.queue.stop(WAIT_S)] == [1]
    assert time.monotonic() - begin_s < WAIT_S / 2


def test_stop_leaves_answered_calls_alone(bench: Bench) -> None:
    bench.call(1)
    bench.wait_idle(1)
    assert bench.queue.stop(1.0) == []


def test_call_beyond_the_limit_is_refused_and_the_others_keep_their_order() -> None:
    bench = Bench(max_waiting=3)
    bench.call(0, "stubborn")
    assert bench.running.wait(WAIT_S)
    for number in range(1, 4):
        bench.call(number)
    with pytest.raises(QueueFull, match=r"3 calls wait, and VLLM_MAX_QUEUE allows no more"):
        bench.call(4)
    bench.queue.put(Task("own work", lambda enter_phase: bench.done.append("task")))  # the server's own is no call
    assert bench.cancel(2) is not None
    bench.call(5)  # in the place of the cancelled one
    bench.gate.set()
    bench.wait_idle(5)
    assert bench.done == [0, 1, 3, "task", 5]


@pytest.mark.parametrize("n_workers", [1, 2])
def test_calls_that_a_free_worker_is_about_to_take_are_not_counted(
    monkeypatch: pytest.MonkeyPatch, n_workers: int
) -> None:
    bench = Bench(n_workers=n_workers, max_waiting=3)
    ready = threading.Event()
    monkeypatch.setattr("mcp_protocol.calls.work_queue.log.configure_logging", lambda: ready.wait(WAIT_S))
    for number in range(3 + n_workers):
        bench.call(number)
    with pytest.raises(QueueFull, match="3 calls wait"):
        bench.call("too many")
    ready.set()
    bench.wait_idle(3 + n_workers)
    assert sorted(bench.done) == list(range(3 + n_workers))


def test_full_queue_leaves_room_for_what_does_not_wait_in_it() -> None:
    bench = Bench(n_workers=2, max_waiting=3)
    begin(bench, "a", "b")
    for number in range(3):
        bench.call(number)
    with pytest.raises(QueueFull):
        bench.call(3)
    bench.call("told", policy=BYPASS_QUEUE)
    bench.wait_idle(1)
    assert bench.done == ["told"]
    bench.gate.set()
    bench.wait_idle(5)
