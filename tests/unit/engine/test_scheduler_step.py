"""One `Scheduler.step` at a time: admit, expire, step, route, notify."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from engine.errors import GenerationCancelled, GenerationFailed
from engine.interface import Control, FinishReason
from engine.local.adapter import EngineBroken
from engine.local.batch import Batch
from engine.local.scheduler import Scheduler
from tests.unit.engine.fake_llm import FakeLLM, ask, make_scheduler

pytestmark = pytest.mark.usefixtures("stand_in_for_vllm")

Open = Callable[..., Batch]


@pytest.fixture
def llm() -> FakeLLM:
    return FakeLLM()


@pytest.fixture
def scheduler(llm: FakeLLM) -> Scheduler:
    return make_scheduler(llm)


@pytest.fixture
def open_batch(scheduler: Scheduler) -> Iterator[Open]:
    """Opens batches with one conversation for each length."""
    with ExitStack() as stack:

        def open_one(*lengths: int, control: Control | None = None) -> Batch:
            batch = stack.enter_context(scheduler.open_batch(control or Control()))
            for length in lengths:
                scheduler.submit(batch, ask("x", length))
            return batch

        yield open_one


def test_a_submitted_request_is_admitted_at_once(llm: FakeLLM, open_batch: Open) -> None:
    open_batch(2, 3)
    assert (llm.added, llm.steps, len(llm.running)) == (2, 0, 2)


def test_a_step_without_requests_does_nothing(llm: FakeLLM, scheduler: Scheduler) -> None:
    scheduler.step()
    assert llm.steps == 0


@pytest.mark.parametrize(("n_steps", "finished"), [(0, []), (1, [0]), (2, [0]), (3, [0, 1])])
def test_completions_come_in_the_step_that_finishes_them(
    scheduler: Scheduler, open_batch: Open, n_steps: int, finished: list[int]
) -> None:
    batch = open_batch(1, 3)
    for _ in range(n_steps):
        scheduler.step()
    batch.deliver(waits=False)
    assert sorted(batch.completions) == finished
    assert batch.n_unfinished == 2 - len(finished)


def test_one_step_serves_all_batches(llm: FakeLLM, scheduler: Scheduler, open_batch: Open) -> None:
    batches = [open_batch(1), open_batch(1)]
    scheduler.step()
    for batch in batches:
        batch.deliver(waits=False)
        assert batch.completions[0].text == "a"
    assert llm.steps == 1


def test_listeners_run_only_when_the_caller_delivers(scheduler: Scheduler, open_batch: Open) -> None:
    streamed: list[str] = []
    batch = open_batch(2, control=Control(on_text=lambda index, text, n: streamed.append(text)))
    scheduler.step()
    scheduler.step()
    assert streamed == []
    batch.deliver(waits=False)
    assert streamed == ["a", "b"]


def test_a_cancelled_batch_gets_no_further_step(llm: FakeLLM, scheduler: Scheduler, open_batch: Open) -> None:
    batch, other = open_batch(9), open_batch(9)
    batch.control.cancellation.set()
    scheduler.step()
    assert len(llm.running) == 1
    with pytest.raises(GenerationCancelled):
        batch.deliver(waits=False)
    other.deliver(waits=False)
    assert other.n_unfinished == 1


def test_a_late_request_ends_with_its_text_and_gets_no_further_step(
    llm: FakeLLM, scheduler: Scheduler, open_batch: Open
) -> None:
    batch = open_batch(9, control=Control(deadline_s=time.monotonic() + 0.05))
    scheduler.step()
    time.sleep(0.06)
    scheduler.step()
    batch.deliver(waits=False)
    assert (batch.completions[0].text, batch.completions[0].finish_reason) == ("a", FinishReason.TIMEOUT)
    assert (llm.steps, llm.running) == (1, {})


def test_a_request_that_was_given_up_is_admitted_again(llm: FakeLLM, scheduler: Scheduler, open_batch: Open) -> None:
    llm.give_up.append("x")
    batch = open_batch(1)
    for _ in range(3):  # given up, admitted again, finished
        scheduler.step()
    batch.deliver(waits=False)
    assert (batch.completions[0].text, llm.added) == ("a", 2)


def test_a_lost_request_ends_its_batch(llm: FakeLLM, scheduler: Scheduler, open_batch: Open) -> None:
    batch = open_batch(9)
    llm.running.clear()
    scheduler.step()
    with pytest.raises(GenerationFailed, match="lost a request"):
        batch.deliver(waits=False)


def test_a_broken_step_is_raised_in_the_callers_alone(llm: FakeLLM, scheduler: Scheduler, open_batch: Open) -> None:
    batches = [open_batch(9), open_batch(9)]

    def breaks(step: int) -> None:
        raise RuntimeError("inside the model")

    llm.on_step = breaks
    scheduler.step()
    for batch in batches:
        with pytest.raises(EngineBroken):
            batch.deliver(waits=False)
    assert llm.running == {}
    with pytest.raises(EngineBroken), scheduler.open_batch(Control()):
        pass
