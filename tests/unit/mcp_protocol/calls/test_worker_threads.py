"""The threads of the queue: few, and replaced when something ends them."""

from __future__ import annotations

import ctypes
import queue
import threading
from typing import Any

import pytest

from mcp_protocol.calls.call import Call
from mcp_protocol.calls.run_queue import BYPASS_WORKERS
from mcp_protocol.calls.scheduling_policy import SchedulingPolicy
from mcp_protocol.calls.task import IdleTask, Task
from mcp_protocol.calls.work_queue import WorkQueue
from tests.unit.mcp_protocol.calls.bench import WAIT_S, Bench, begin
from tests.unit.mcp_protocol.host import make_context

pytestmark = pytest.mark.slow


def test_a_thousand_calls_start_no_more_threads_than_they_need(wide: Bench) -> None:
    before = threading.active_count()
    begin(wide, "a", "b", "c")
    for number in range(1000):
        wide.call(number)
    assert threading.active_count() - before <= 3 + BYPASS_WORKERS
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
        work_queue.put(Call(request_id, "note", {}, make_context()))
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
    work_queue.put(Call(1, "note", {}, make_context()))
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
        assert call.claim_response()
        done.put(call.request_id)

    monkeypatch.setattr("mcp_protocol.calls.work_queue.log.log_failure", break_off)
    work_queue = WorkQueue(
        run_call,
        lambda task: None,
        lambda: None,
        on_lost=lambda call: lost.append(call.request_id),
        n_workers=n_workers,
    )
    work_queue.put(Call(1, "note", {}, make_context()))
    assert begun.wait(WAIT_S)
    (first,) = workers_since(before)
    work_queue.put(Call(2, "note", {}, make_context(), policy=SchedulingPolicy(exclusive=True)))
    gate.set()
    assert done.get(timeout=WAIT_S) == 2
    first.join(WAIT_S)
    assert not first.is_alive()
    assert lost == [1]
    work_queue.put(Call(3, "note", {}, make_context()))
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
