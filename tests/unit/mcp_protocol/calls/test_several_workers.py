"""The queue with several workers."""

from __future__ import annotations

from mcp_protocol.calls.run_queue import BYPASS_WORKERS
from mcp_protocol.calls.scheduling_policy import BYPASS_QUEUE, SchedulingPolicy
from mcp_protocol.calls.task import Task
from mcp_protocol.calls.work_queue import GRACE_S
from tests.unit.mcp_protocol.calls.bench import WAIT_S, Bench, begin


def test_calls_overtake_one_that_takes_long(wide: Bench) -> None:
    begin(wide, 1)
    for number in range(2, 50):
        wide.call(number)
    wide.wait_idle(48)
    assert sorted(wide.done) == list(range(2, 50))


def test_every_call_runs_once_whatever_holds_it_up(wide: Bench) -> None:
    wide.gate.set()
    policies = [
        SchedulingPolicy(),
        SchedulingPolicy(exclusive=True),
        BYPASS_QUEUE,
        *(SchedulingPolicy(frozenset([key])) for key in "ab"),
    ]
    for number in range(500):
        wide.call(number, policy=policies[number * 7 % 5])
    wide.wait_idle(500)
    assert sorted(wide.done) == list(range(500))
    for key in (3, 4):  # those with a key in common, and the exclusive ones, in order
        ordered = [number for number in wide.done if number * 7 % 5 == key]
        assert ordered == sorted(ordered)


def test_what_is_at_once_is_answered_while_all_workers_are_busy(wide: Bench) -> None:
    begin(wide, 1, 2, 3)
    wide.call(4)
    wide.call(5, policy=BYPASS_QUEUE)
    wide.wait_idle(1)
    assert wide.done == [5]


def test_exclusive_call_waits_and_is_waited_for(wide: Bench) -> None:
    begin(wide, 1, 2)
    wide.call(3, policy=SchedulingPolicy(exclusive=True))
    wide.call(4)
    wide.queue.put(Task("own", lambda enter_phase: wide.done.append("at once"), bypass_queue=True))
    wide.wait_idle(1)
    assert wide.done == ["at once"]
    wide.gate.set()
    wide.wait_idle(4)
    assert wide.done[3:] == [3, 4]


def test_jobs_are_waited_for_until_a_call_about_them_finds_no_thread(wide: Bench) -> None:
    is_job_control = SchedulingPolicy(bypass_queue=True, is_job_control=True)
    (maker,) = begin(wide, "maker")
    waiting = begin(wide, *range(BYPASS_WORKERS - 1), policy=is_job_control)
    begin(wide, "last", policy=is_job_control)
    assert not maker.should_yield()
    wide.call("one more", policy=is_job_control)
    assert maker.should_yield()
    assert waiting[0].should_yield()


def test_cancelling_finds_the_oldest_of_equal_ids(wide: Bench) -> None:
    first, second, _ = begin(wide, 1, 1, 2)
    assert wide.cancel(1) is first
    assert wide.cancel(1) is second
    assert wide.cancel(1) is None


def test_deadlines_pass_by_calls_that_go_on(wide: Bench) -> None:
    begin(wide, 1, 2)
    begin(wide, 3, timeout_s=5, arrived_ago_s=5 + GRACE_S + 1)
    wide.call(4, timeout_s=5, arrived_ago_s=6)
    soon = wide.call(5, timeout_s=5)
    assert [request_id for request_id, _ in wide.overdue()] == [3, 4]
    assert wide.queue.next_deadline_s() == soon.deadline_s


def test_call_that_loads_beside_others_is_told_so_at_its_deadline(wide: Bench) -> None:
    begin(wide, 1)
    begin(wide, 2, 3, tool="load", timeout_s=5, arrived_ago_s=6)
    wide.call(4, timeout_s=5, arrived_ago_s=6)
    answers = wide.overdue()
    assert sorted(request_id for request_id, _ in answers) == [2, 3, 4]
    assert all("still loading weights" in text for _, text in answers)


def test_stop_waits_for_all_that_obey_and_claims_the_rest(wide: Bench) -> None:
    begin(wide, 1, 2, tool="obedient")
    begin(wide, 3, tool="load")
    wide.call(4)
    assert sorted(call.request_id for call in wide.queue.stop(WAIT_S)) == [3, 4]
    assert sorted(wide.done) == [1, 2]


def test_queue_is_drained_when_all_that_run_are_done(wide: Bench) -> None:
    begin(wide, 1, 2)
    wide.call(3)
    wide.wait_idle(1)
    assert not wide.queue.drained
    wide.gate.set()
    wide.wait_idle(2)
    assert wide.queue.drained
