"""Engines that work in turns: what is cancelled or late ends while another one has its turn."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from engine.errors import GenerationCancelled
from engine.interface import Completion, Control, FinishReason
from engine.local.adapter import EngineAdapter
from engine.local.locks import FairLock
from engine.local.scheduler import Scheduler
from sandbox.cancellation import Cancellation
from tests.unit.engine.fake_llm import FakeLLM, ask, make_inputs
from tests.waiting import wait_until

HAS_THREAD = pytest.mark.parametrize("has_thread", [False, True])


def scheduler(turns: FairLock, has_thread: bool, llm: FakeLLM | None = None) -> Scheduler:
    llm = llm or FakeLLM()
    return Scheduler(EngineAdapter(llm), make_inputs(llm), turns, has_thread=has_thread)


def begin(each: Scheduler, control: Control, max_tokens: int = 3) -> Future[list[Completion]]:
    return ThreadPoolExecutor().submit(each.generate, [ask("hello", max_tokens)], control)


@HAS_THREAD
def test_two_engines_never_work_at_the_same_time(has_thread: bool) -> None:
    turns, inside, most = FairLock(), 0, 0

    def on_step(step: int) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.001)
        inside -= 1

    schedulers = [scheduler(turns, has_thread, FakeLLM(on_step=on_step)) for _ in range(2)]
    for future in [begin(each, Control(), 20) for each in schedulers for _ in range(2 if has_thread else 1)]:
        assert future.result(60)[0].completion_tokens == 20
    assert most == 1
    for each in schedulers:
        each.close()


@HAS_THREAD
def test_a_request_is_cancelled_while_another_engine_has_its_turn(has_thread: bool) -> None:
    turns, cancellation = FairLock(), Cancellation()
    each = scheduler(turns, has_thread)
    with turns:
        future = begin(each, Control(cancellation=cancellation))
        wait_until(lambda: each._waiting)
        cancellation.set()
        with pytest.raises(GenerationCancelled):
            future.result(60)
    each.close()


@HAS_THREAD
def test_a_request_is_late_while_another_engine_has_its_turn(has_thread: bool) -> None:
    turns = FairLock()
    each = scheduler(turns, has_thread)
    with turns:
        (completion,) = begin(each, Control(deadline_s=time.monotonic() + 0.05)).result(60)
    assert completion.finish_reason is FinishReason.TIMEOUT
    assert not completion.text
    each.close()


@HAS_THREAD
def test_a_running_request_ends_while_another_engine_has_its_turn(has_thread: bool) -> None:
    turns, cancellation, held, release = FairLock(), Cancellation(), threading.Event(), threading.Event()
    llm = FakeLLM()
    each = scheduler(turns, has_thread, llm)

    def other() -> None:
        with turns:
            held.set()
            assert release.wait(60)

    thread = threading.Thread(target=other, daemon=True)
    llm.on_step = lambda step: thread.start() if step == 1 else None
    future = begin(each, Control(cancellation=cancellation), 20)
    assert held.wait(60)
    cancellation.set()
    with pytest.raises(GenerationCancelled):
        future.result(60)
    assert not llm.running
    release.set()
    (completion,) = begin(each, Control()).result(60)
    assert completion.text == "abc"
    each.close()
