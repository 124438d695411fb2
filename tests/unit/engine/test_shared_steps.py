"""Several generations at a time on one stand-in for vLLM, which notices when two threads use it at once."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from engine.adapters import Adapters
from engine.errors import GenerationCancelled, GenerationFailed
from engine.interface import Completion, Control, Conversation, FinishReason, Message, Sampling, TextPart
from engine.parsers import OutputParsers
from engine.rendering import Renderer, TokenBreaker
from engine.shared_steps import EngineBroken
from engine.step_loop import StepLoop
from tests.unit.engine.fake_llm import FakeLLM, OutputKind

WAIT_S = 30.0
LONG = 1_000_000


class WatchedLLM(FakeLLM):
    """Fails when a second thread comes while one is inside, and takes its time for a step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.inside = threading.Lock()
        self.most_running = 0

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
            self.most_running = max(self.most_running, len(self.running))
            time.sleep(0.001)
            return super().step()


class Crowd:
    """Generations in threads of their own."""

    def __init__(self, llm: FakeLLM, own_thread: bool) -> None:
        self.llm = llm
        renderer = Renderer("model", supports_images=False, max_images=0, break_tokens=TokenBreaker(()))
        self.loop = StepLoop(llm, renderer, Adapters({}), OutputParsers(llm), own_thread=own_thread)
        self.pool = ThreadPoolExecutor(32)

    def ask(self, *lengths: int, text: str = "x", **control: Any) -> "Future[list[Completion]]":
        """Begins a generation of so many conversations, each of so many tokens."""
        conversations = [Conversation((Message("user", (TextPart(text),)),), Sampling(0.0, n)) for n in lengths]
        return self.pool.submit(self.loop.run, conversations, Control(**control))

    def wait_for_running(self, n_running: int) -> None:
        """Waits until the engine works on so many requests."""
        wait_until(lambda: len(self.llm.running) == n_running)


def wait_until(holds: Callable[[], bool]) -> None:
    until_s = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < until_s
        time.sleep(0.001)


@pytest.fixture(autouse=True)
def _vllm_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(SamplingParams=SimpleNamespace))
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", SimpleNamespace(RequestOutputKind=OutputKind))


@pytest.fixture(params=[True, False], ids=["own thread", "in turn"])
def crowd(request: pytest.FixtureRequest) -> Iterator[Crowd]:
    """A crowd whose threads are gone at the end."""
    made = Crowd(WatchedLLM(), own_thread=request.param)
    yield made
    made.pool.shutdown(cancel_futures=True)
    made.loop.steps.end()
    assert "engine-steps" not in {thread.name for thread in threading.enumerate()}


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
    stop = threading.Event()
    first = crowd.ask(LONG, cancelled=stop.is_set)
    crowd.wait_for_running(1)
    assert [lengths(future.result(WAIT_S)) for future in [crowd.ask(30) for _ in range(8)]] == [[30]] * 8
    assert isinstance(crowd.llm, WatchedLLM)
    assert crowd.llm.most_running > 1
    stop.set()
    with pytest.raises(GenerationCancelled):
        first.result(WAIT_S)


@pytest.mark.parametrize("cancelled", range(3))
def test_cancelling_one_stops_its_own_requests_alone(crowd: Crowd, cancelled: int) -> None:
    stops = [threading.Event() for _ in range(3)]
    asked = []
    for number, stop in enumerate(stops):  # the first one steps for all
        asked.append(crowd.ask(LONG, LONG, cancelled=stop.is_set))
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
    stop, told = threading.Event(), list[str]()
    other = crowd.ask(LONG, cancelled=stop.is_set)
    crowd.wait_for_running(1)
    on_text = (lambda index, text, n: told.append(text)) if listening else None
    (late,) = crowd.ask(LONG, deadline_s=time.monotonic() + 0.1, on_text=on_text).result(WAIT_S)
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
    assert str(crowd.loop.broken) == "inside the model"
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

    slow = crowd.pool.submit(crowd.loop.run, conversations(), Control())
    assert begun.wait(WAIT_S)
    assert lengths(crowd.ask(10).result(WAIT_S)) == [10]
    gate.set()
    assert lengths(slow.result(WAIT_S)) == [2, 3]


def test_refused_and_given_up_requests_concern_no_other(crowd: Crowd) -> None:
    crowd.llm.refusals["bad"] = [ValueError("no")]
    crowd.llm.give_up += ["hopeless", "hopeless"]
    stop = threading.Event()
    other = crowd.ask(LONG, cancelled=stop.is_set)
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
    with crowd.loop.steps.engine_lock:
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
