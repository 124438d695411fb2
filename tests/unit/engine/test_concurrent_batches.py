"""Several batches at a time on one fake of vLLM, which fails when two threads use it at once."""

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import GenerationCancelled, GenerationFailed
from engine.interface import Completion, Control, Conversation, FinishReason, Message, Sampling, TextPart
from engine.local.adapter import EngineBroken
from sandbox.cancellation import Cancellation
from tests.unit.engine.fake_llm import FakeLLM, make_scheduler
from tests.waiting import wait_until

pytestmark = pytest.mark.usefixtures("stand_in_for_vllm")

WAIT_S = 30.0
LONG = 1_000_000


class WatchedLLM(FakeLLM):
    """Fails when a second thread comes while one is inside, and takes its time for a step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.inside = threading.Lock()
        self.max_running = 0

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        assert self.inside.acquire(blocking=False), "two threads use the engine"
        try:
            yield
        finally:
            self.inside.release()

    def enqueue_chat(self, *args: Any, **options: Any) -> None:
        with self.entered():
            super().enqueue_chat(*args, **options)

    def abort_request(self, ids: list[str], internal: bool) -> None:
        with self.entered():
            super().abort_request(ids, internal)

    def step(self) -> list[Any]:
        with self.entered():
            self.max_running = max(self.max_running, len(self.running))
            time.sleep(0.001)
            return super().step()


class Crowd:
    """Generations in threads of their own."""

    def __init__(self, llm: FakeLLM, has_thread: bool) -> None:
        self.llm = llm
        self.scheduler = make_scheduler(llm, has_thread=has_thread)
        self.pool = ThreadPoolExecutor(32)
        self.controls: list[Control] = []

    def ask(self, *lengths: int, text: str = "x", **control: Any) -> "Future[list[Completion]]":
        """Begins a generation of so many conversations, each of so many tokens."""
        conversations = [Conversation((Message("user", (TextPart(text),)),), Sampling(0.0, n)) for n in lengths]
        self.controls.append(Control(**control))
        return self.pool.submit(self.scheduler.generate, conversations, self.controls[-1])

    def wait_for_running(self, n_running: int) -> None:
        """Waits until the engine works on so many requests."""
        wait_until(lambda: len(self.llm.running) == n_running)


@pytest.fixture(params=[True, False], ids=["own thread", "in turn"])
def crowd(request: pytest.FixtureRequest) -> Iterator[Crowd]:
    """A crowd whose threads are gone at the end."""
    made = Crowd(WatchedLLM(), has_thread=request.param)
    yield made
    for control in made.controls:  # also those that a failed test has left
        control.cancellation.set()
    made.pool.shutdown(cancel_futures=True)
    made.scheduler.close()
    assert "scheduler" not in {thread.name for thread in threading.enumerate()}


def lengths(completions: list[Completion]) -> list[int]:
    return [completion.completion_tokens for completion in completions]


@pytest.mark.parametrize("listening", [True, False])
def test_each_gets_its_own_answers(crowd: Crowd, listening: bool) -> None:
    told: list[list[str]] = [[] for _ in range(20)]

    def listener(number: int) -> Any:
        return (lambda index, text, n: told[number].append(text)) if listening else None

    asked = [crowd.ask(n % 7 + 1, n % 5 + 3, on_text=listener(n)) for n in range(20)]
    for n, future in enumerate(asked):
        completions = future.result(WAIT_S)
        assert lengths(completions) == [n % 7 + 1, n % 5 + 3]
        assert all(completion.first_token_ms is not None for completion in completions)
        if listening:
            assert sorted("".join(told[n])) == sorted("".join(completion.text for completion in completions))
    assert not crowd.llm.running


def test_steps_are_shared(crowd: Crowd) -> None:
    stop = Cancellation()
    first = crowd.ask(LONG, cancellation=stop)
    crowd.wait_for_running(1)
    assert [lengths(future.result(WAIT_S)) for future in [crowd.ask(30) for _ in range(8)]] == [[30]] * 8
    assert isinstance(crowd.llm, WatchedLLM)
    assert crowd.llm.max_running > 1
    stop.set()
    with pytest.raises(GenerationCancelled):
        first.result(WAIT_S)


@pytest.mark.parametrize("cancelled", range(3))
def test_cancelling_one_stops_its_own_requests_alone(crowd: Crowd, cancelled: int) -> None:
    stops = [Cancellation() for _ in range(3)]
    asked = []
    for number, stop in enumerate(stops):  # the first one steps for all
        asked.append(crowd.ask(LONG, LONG, cancellation=stop))
        crowd.wait_for_running(2 * number + 2)
    stops.pop(cancelled).set()
    with pytest.raises(GenerationCancelled):
        asked.pop(cancelled).result(WAIT_S)
    assert len(crowd.llm.running) == 4
    before = crowd.llm.steps
    wait_until(lambda: crowd.llm.steps > before + 3)  # another one steps now
    assert not any(future.done() for future in asked)
    for stop in stops:
        stop.set()
    for future in asked:
        with pytest.raises(GenerationCancelled):
            future.result(WAIT_S)
    assert not crowd.llm.running


@pytest.mark.parametrize("listening", [True, False])
def test_deadline_of_one_concerns_no_other(crowd: Crowd, listening: bool) -> None:
    stop, told = Cancellation(), list[str]()
    other = crowd.ask(LONG, cancellation=stop)
    crowd.wait_for_running(1)
    on_text = (lambda index, text, n: told.append(text)) if listening else None
    (late,) = crowd.ask(LONG, deadline_s=time.monotonic() + 0.3, on_text=on_text).result(WAIT_S)
    assert late.finish_reason is FinishReason.TIMEOUT
    assert len(late.text) == late.completion_tokens > 0
    assert "".join(told) == (late.text if listening else "")
    assert not other.done()
    assert len(crowd.llm.running) == 1
    stop.set()


def test_broken_step_ends_all_and_none_later_begins(crowd: Crowd) -> None:
    asked = [crowd.ask(LONG) for _ in range(5)]
    crowd.wait_for_running(5)

    def breaks(step: int) -> None:
        raise RuntimeError("inside the model")

    crowd.llm.on_step = breaks
    for future in asked:
        with pytest.raises(EngineBroken) as caught:
            future.result(WAIT_S)
        assert str(caught.value.__cause__) == "inside the model"
    assert str(crowd.scheduler.broken) == "inside the model"
    with pytest.raises(EngineBroken):
        crowd.ask(1).result(WAIT_S)
    assert not crowd.llm.running


def test_listener_that_stands_still_holds_up_nobody_else(crowd: Crowd) -> None:
    gate, heard = threading.Event(), threading.Event()

    def stands_still(index: int, text: str, n: int) -> None:
        heard.set()
        assert gate.wait(WAIT_S)

    still = crowd.ask(5, on_text=stands_still)
    assert heard.wait(WAIT_S)
    assert lengths(crowd.ask(20).result(WAIT_S)) == [20]
    assert not still.done()
    gate.set()
    assert lengths(still.result(WAIT_S)) == [5]


def test_slow_preparation_of_one_holds_up_nobody_else(crowd: Crowd) -> None:
    gate, begun = threading.Event(), threading.Event()

    def conversations() -> Iterator[Conversation]:
        question = (Message("user", (TextPart("x"),)),)
        yield Conversation(question, Sampling(0.0, 2))
        begun.set()
        assert gate.wait(WAIT_S)
        yield Conversation(question, Sampling(0.0, 3))

    slow = crowd.pool.submit(crowd.scheduler.generate, conversations(), Control())
    assert begun.wait(WAIT_S)
    assert lengths(crowd.ask(10).result(WAIT_S)) == [10]
    gate.set()
    assert lengths(slow.result(WAIT_S)) == [2, 3]


def test_refused_and_given_up_requests_concern_no_other(crowd: Crowd) -> None:
    crowd.llm.refusals["bad"] = [ValueError("no")]
    crowd.llm.give_up += ["hopeless", "hopeless"]
    stop = Cancellation()
    other = crowd.ask(LONG, cancellation=stop)
    crowd.wait_for_running(1)
    with pytest.raises(Exception, match="no"):
        crowd.ask(3, text="bad").result(WAIT_S)
    with pytest.raises(GenerationFailed):
        crowd.ask(3, text="hopeless").result(WAIT_S)
    assert not other.done()
    stop.set()


def test_lost_request_is_told(crowd: Crowd) -> None:
    asked = crowd.ask(LONG)
    crowd.wait_for_running(1)
    with crowd.scheduler._lock:
        crowd.llm.running.clear()
    with pytest.raises(GenerationFailed, match="lost a request"):
        asked.result(WAIT_S)


def test_dead_core_in_another_process_ends_all(crowd: Crowd) -> None:
    import queue

    crowd.llm.engine_core = SimpleNamespace(outputs_queue=queue.Queue(), resources=SimpleNamespace(engine_dead=False))
    asked = [crowd.ask(LONG) for _ in range(3)]
    crowd.wait_for_running(3)
    crowd.llm.engine_core.resources.engine_dead = True
    for future in asked:
        with pytest.raises(EngineBroken):
            future.result(WAIT_S)
