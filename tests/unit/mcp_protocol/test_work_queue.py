from __future__ import annotations

import ctypes
import queue
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from mcp_protocol.call import Call
from mcp_protocol.lineup import AT_ONCE_WORKERS
from mcp_protocol.turn import AT_ONCE, Turn
from mcp_protocol.versions import Revision
from mcp_protocol.work_queue import GRACE_S, IdleTask, QueueFull, Task, WorkQueue

WAIT_S = 30.0


class Bench:
    """A queue whose calls are functions, looked up by the tool's name."""

    def __init__(self, **options: Any) -> None:
        self.done: list[Any] = []
        self.n_running = threading.Semaphore(0)
        self.idle = threading.Semaphore(0)
        self.gate = threading.Event()
        self.running = threading.Event()
        self.idle_due_s: float | None = None
        idle_task = IdleTask(Task("rest", self._rest), lambda: self.idle_due_s)
        self.queue = WorkQueue(self._run_call, lambda task: task.run(), self.idle.release, idle_task, **options)

    def _rest(self, enter_phase: Any) -> None:
        self.done.append("rest")

    def call(
        self, request_id: Any, tool: str = "note", timeout_s: float = 0.0, arrived_ago_s: float = 0.0, **options: Any
    ) -> Call:
        """A call that arrived so long ago, put into the queue."""
        revision = Revision("2025-11-25")
        call = Call(request_id, tool, {}, revision, timeout_s=timeout_s, send=lambda message: None, **options)
        call.arrived_s -= arrived_ago_s
        if call.deadline_s is not None:
            call.deadline_s -= arrived_ago_s
        self.queue.put(call)
        return call

    def _run_call(self, call: Call) -> None:
        if call.tool == "load":
            call.enter_phase("loading weights")
        if call.tool != "note":
            self.running.set()
            self.n_running.release()
            while not self.gate.wait(0.002) and not (call.tool == "obedient" and call.cancelled()):
                pass
        if call.claim():
            self.done.append(call.request_id)
            call.settled = True

    def wait_idle(self, n_items: int) -> None:
        """Waits until the worker has finished so many items."""
        for _ in range(n_items):
            assert self.idle.acquire(timeout=WAIT_S)

    def overdue(self) -> list[tuple[Any, str]]:
        """What the main thread would answer now."""
        answers = []
        for call, text in self.queue.overdue():
            call.settled = True
            answers.append((call.request_id, text))
        return answers


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench whose worker is let go at the end."""
    bench = Bench()
    yield bench
    bench.gate.set()


def test_items_run_one_after_another_in_order(bench: Bench) -> None:
    for number in range(20):
        bench.call(number)
    bench.wait_idle(20)
    assert bench.done == list(range(20))


def test_call_is_hurried_as_long_as_one_about_jobs_waits_behind_it(bench: Bench) -> None:
    waiting = bench.call(1, "stubborn")
    assert bench.running.wait(WAIT_S)
    bench.call(2)
    assert not waiting.hurried()
    about_jobs = bench.call(3, turn=Turn(about_jobs=True))
    assert waiting.hurried()
    about_jobs.claim()  # it was cancelled
    assert not waiting.hurried()
    bench.call(4, turn=Turn(about_jobs=True))
    assert waiting.hurried()
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
    assert bench.queue.cancel(1)
    assert bench.queue.cancel(2)
    assert not bench.queue.cancel(2)
    assert bench.queue.drained
    bench.gate.set()
    bench.wait_idle(2)
    assert bench.done == []


# Deadlines


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
        assert text == "The model is still loading: loading weights, 0 s so far; ask again in a moment."
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
    assert "still loading: importing vLLM" in text


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
    assert bench.overdue() == [(1, "The call did not end at its deadline and was given up.")]
    assert call.cancelled()


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
        "The server is busy with an earlier call; this one was not run. Ask again."
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
    assert first.claim()
    assert (bench.queue.next_deadline_s() or 0) > (first.deadline_s or 0)


# Stopping


def test_stop_waits_for_a_call_that_obeys_and_claims_the_rest(bench: Bench) -> None:
    bench.call(1, "obedient")
    bench.call(2)
    bench.call(3)
    assert bench.running.wait(WAIT_S)
    left = bench.queue.stop(WAIT_S)
    assert bench.done == [1]
    assert [call.request_id for call in left] == [2, 3]
    assert all(call.claimed for call in left)


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


# Resting


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


# A full queue


def test_call_beyond_the_limit_is_refused_and_the_others_keep_their_order() -> None:
    bench = Bench(max_waiting=3)
    bench.call(0, "stubborn")
    assert bench.running.wait(WAIT_S)
    for number in range(1, 4):
        bench.call(number)
    with pytest.raises(QueueFull, match=r"3 calls wait, and VLLM_MAX_QUEUE allows no more"):
        bench.call(4)
    bench.queue.put(Task("own work", lambda enter_phase: bench.done.append("task")))  # the server's own is no call
    assert bench.queue.cancel(2) is not None
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
    monkeypatch.setattr("mcp_protocol.work_queue.log.configure_logging", lambda: ready.wait(WAIT_S))
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
    bench.call("told", turn=AT_ONCE)
    bench.wait_idle(1)
    assert bench.done == ["told"]
    bench.gate.set()
    bench.wait_idle(5)


# Several workers


@pytest.fixture
def wide() -> Iterator[Bench]:
    """A bench with three workers, which are let go at the end."""
    bench = Bench(n_workers=3)
    yield bench
    bench.gate.set()


def begin(bench: Bench, *request_ids: Any, tool: str = "stubborn", **options: Any) -> list[Call]:
    """Calls that run until the gate opens; returns when they do."""
    calls = [bench.call(request_id, tool, **options) for request_id in request_ids]
    for _ in calls:
        assert bench.n_running.acquire(timeout=WAIT_S)
    return calls


def test_calls_overtake_one_that_takes_long(wide: Bench) -> None:
    begin(wide, 1)
    for number in range(2, 50):
        wide.call(number)
    wide.wait_idle(48)
    assert sorted(wide.done) == list(range(2, 50))


def test_every_call_runs_once_whatever_holds_it_up(wide: Bench) -> None:
    wide.gate.set()
    turns = [Turn(), Turn(exclusive=True), AT_ONCE, *(Turn(frozenset([key])) for key in "ab")]
    for number in range(500):
        wide.call(number, turn=turns[number * 7 % 5])
    wide.wait_idle(500)
    assert sorted(wide.done) == list(range(500))
    for key in (3, 4):  # those with a key in common, and the exclusive ones, in order
        ordered = [number for number in wide.done if number * 7 % 5 == key]
        assert ordered == sorted(ordered)


def test_what_is_at_once_is_answered_while_all_workers_are_busy(wide: Bench) -> None:
    begin(wide, 1, 2, 3)
    wide.call(4)
    wide.call(5, turn=AT_ONCE)
    wide.wait_idle(1)
    assert wide.done == [5]


def test_exclusive_call_waits_and_is_waited_for(wide: Bench) -> None:
    begin(wide, 1, 2)
    wide.call(3, turn=Turn(exclusive=True))
    wide.call(4)
    wide.queue.put(Task("own", lambda enter_phase: wide.done.append("at once"), at_once=True))
    wide.wait_idle(1)
    assert wide.done == ["at once"]
    wide.gate.set()
    wide.wait_idle(4)
    assert wide.done[3:] == [3, 4]


def test_jobs_are_waited_for_until_a_call_about_them_finds_no_thread(wide: Bench) -> None:
    about_jobs = Turn(at_once=True, about_jobs=True)
    (maker,) = begin(wide, "maker")
    waiting = begin(wide, *range(AT_ONCE_WORKERS - 1), turn=about_jobs)
    begin(wide, "last", turn=about_jobs)
    assert not maker.hurried()
    wide.call("one more", turn=about_jobs)
    assert maker.hurried()
    assert waiting[0].hurried()


def test_cancelling_finds_the_oldest_of_equal_ids(wide: Bench) -> None:
    first, second, _ = begin(wide, 1, 1, 2)
    assert wide.queue.cancel(1) is first
    assert wide.queue.cancel(1) is second
    assert wide.queue.cancel(1) is None


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
    assert all("still loading: loading weights" in text for _, text in answers)


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


def test_a_thousand_calls_start_no_more_threads_than_they_need(wide: Bench) -> None:
    before = threading.active_count()
    begin(wide, "a", "b", "c")
    for number in range(1000):
        wide.call(number)
    assert threading.active_count() - before <= 3 + AT_ONCE_WORKERS
    wide.gate.set()
    wide.wait_idle(1003)
    assert len(set(wide.done)) == 1003


def test_first_call_without_a_thread_is_refused_and_later_ones_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    bench = Bench()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="new thread"):
            bench.call(1)
        assert bench.queue.drained
    bench.call(2)
    bench.idle.acquire(timeout=WAIT_S)
    bench.idle.acquire(timeout=0.2)
    assert bench.done == [2]


def test_call_that_gets_no_thread_of_its_own_waits_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(n_workers=2)
    bench.call(1, "slow")
    assert bench.running.wait(WAIT_S)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", lambda thread: (_ for _ in ()).throw(RuntimeError("no thread")))
        bench.call(2)
    bench.gate.set()
    bench.wait_idle(2)
    assert sorted(bench.done) == [1, 2]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError])
@pytest.mark.parametrize("n_workers", [1, 2])
def test_worker_outlives_whatever_its_own_parts_raise(kind: type[BaseException], n_workers: int) -> None:
    done = threading.Event()

    def run_call(call: Call) -> None:
        if call.request_id == "last":
            done.set()
            return
        raise kind

    work_queue = WorkQueue(run_call, lambda task: None, lambda: None, n_workers=n_workers)
    for request_id in (1, 2, 3, "last"):
        work_queue.put(Call(request_id, "note", {}, Revision("2025-11-25")))
    assert done.wait(WAIT_S)


def test_worker_goes_on_after_a_defect_in_what_is_asked_between_calls() -> None:
    asked = iter([RuntimeError, SystemExit])
    done = threading.Event()

    def due_s() -> float | None:
        for kind in asked:
            raise kind
        return None

    work_queue = WorkQueue(
        lambda call: done.set(), lambda task: None, lambda: None, IdleTask(Task("rest", print), due_s)
    )
    work_queue.put(Call(1, "note", {}, Revision("2025-11-25")))
    assert done.wait(WAIT_S)


def throw_into_workers(kind: type[BaseException], among: set[threading.Thread]) -> None:
    """Raises it in these threads, wherever they are, as libraries that bound time do."""
    for thread in among:
        n_hit = ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(kind))
        assert n_hit == 1


def workers_since(before: set[threading.Thread]) -> set[threading.Thread]:
    """The workers that have started since."""
    return {thread for thread in set(threading.enumerate()) - before if thread.name == "worker"}


@pytest.mark.parametrize("n_workers", [1, 2])
def test_what_is_thrown_into_a_waiting_worker_costs_no_call(n_workers: int) -> None:
    before = set(threading.enumerate())
    bench = Bench(n_workers=n_workers)
    for number in range(20):
        bench.call(number)
        bench.wait_idle(1)
        throw_into_workers(SystemExit, workers_since(before))  # it comes when the next item wakes the worker
    bench.call("last")
    bench.wait_idle(1)
    assert bench.done == [*range(20), "last"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("n_workers", [1, 2])
def test_worker_that_ends_all_the_same_is_replaced(monkeypatch: pytest.MonkeyPatch, n_workers: int) -> None:
    def break_off(name: str) -> None:
        raise SystemExit

    before = set(threading.enumerate())
    lost: list[Any] = []
    gate, begun = threading.Event(), threading.Event()
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def run_call(call: Call) -> None:
        if call.request_id == 1:
            begun.set()
            assert gate.wait(WAIT_S)
            raise MemoryError
        assert call.claim()
        done.put(call.request_id)

    monkeypatch.setattr("mcp_protocol.work_queue.log.log_failure", break_off)
    work_queue = WorkQueue(
        run_call,
        lambda task: None,
        lambda: None,
        on_lost=lambda call: lost.append(call.request_id),
        n_workers=n_workers,
    )
    work_queue.put(Call(1, "note", {}, Revision("2025-11-25")))
    assert begun.wait(WAIT_S)
    (first,) = workers_since(before)
    work_queue.put(Call(2, "note", {}, Revision("2025-11-25"), turn=Turn(exclusive=True)))
    gate.set()
    assert done.get(timeout=WAIT_S) == 2
    first.join(WAIT_S)
    assert not first.is_alive()
    assert lost == [1]
    work_queue.put(Call(3, "note", {}, Revision("2025-11-25")))
    assert done.get(timeout=WAIT_S) == 3
    assert work_queue.drained


def test_worker_that_ended_without_a_word_is_replaced_by_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(threading.enumerate())
    bench = Bench()
    monkeypatch.setattr(bench.queue, "_work", lambda: None)
    bench.call(1)
    for thread in workers_since(before):
        thread.join(WAIT_S)
    monkeypatch.undo()
    bench.call(2)
    bench.wait_idle(2)
    assert bench.done == [1, 2]
