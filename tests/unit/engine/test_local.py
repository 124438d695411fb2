"""What `LocalEngine` does without vLLM."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.errors import EngineDied, EngineUnavailable, OffloadUnsupported, OutOfMemory
from engine.interface import Completion, Control, Conversation, EngineState, Sampling
from engine.local.adapter import EngineAdapter, EngineBroken
from engine.local.engine import LocalEngine
from engine.local.loader import LoadedModel
from engine.local.scheduler import Scheduler
from settings import EngineSettings

ROOT = Path(__file__).parents[3]
HEAVY = ("vllm", "torch", "numpy", "PIL", "pydantic", "transformers")


class SleepyLLM:
    """A loaded model that can sleep; `raises` is what the next sleep or wake-up fails with."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.raises: BaseException | None = None
        self.llm_engine = SimpleNamespace(engine_core=SimpleNamespace(shutdown=lambda timeout: self._do("shutdown")))

    def sleep(self, level: int) -> None:
        self._do(f"sleep {level}")

    def wake_up(self) -> None:
        self._do("wake up")

    def _do(self, act: str) -> None:
        self.done.append(act)
        if self.raises is not None:
            error, self.raises = self.raises, None
            raise error


class FakeScheduler:
    """Gives every conversation the same completion."""

    broken: BaseException | None = None

    def close(self) -> None: ...

    def generate(self, conversations: Any, control: Control) -> list[Completion]:
        return [Completion("reply") for _ in conversations]


def model(llm: Any, scheduler: Any = None, **facts: Any) -> LoadedModel:
    return LoadedModel(llm, EngineAdapter(llm), cast(Scheduler, scheduler or FakeScheduler()), facts)


def loaded(monkeypatch: pytest.MonkeyPatch, device: str = "cuda", can_offload: bool = True) -> tuple[LocalEngine, Any]:
    """An engine whose loads succeed at once, and the model of the first."""
    llm = SleepyLLM()

    def load(engine: LocalEngine, on_phase: Any) -> None:
        engine._model = model(llm, device=device, can_offload=can_offload)

    monkeypatch.setattr(LocalEngine, "_load", load)
    engine = LocalEngine(EngineSettings())
    engine.load()
    return engine, llm


def ask(engine: LocalEngine) -> str:
    (completion,) = engine.generate([Conversation((), Sampling(0.0, 1))], Control())
    return completion.text


def test_importing_and_asking_for_the_status_costs_nothing_heavy() -> None:
    program = (
        "import sys; from engine.local.engine import LocalEngine; from settings import EngineSettings; "
        f"LocalEngine(EngineSettings()).status(); print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_before_a_load_only_the_name_is_known() -> None:
    status = LocalEngine(EngineSettings()).status()
    assert (status.state, status.model_name, status.max_model_len) == (EngineState.UNLOADED, "demo-vlm", None)


def test_a_load_that_fails_is_shown_in_the_status(tmp_path: Path) -> None:
    engine = LocalEngine(EngineSettings(model_name=str(tmp_path / "none")))
    with pytest.raises(EngineUnavailable, match=r"^Failed to initialize vLLM: there is no model folder") as caught:
        engine.load()
    assert (engine.status().state, engine.status().error) == (EngineState.FAILED, str(caught.value))
    engine.release()
    assert (engine.status().state, engine.status().error) == (EngineState.UNLOADED, None)


def test_nothing_to_answer_loads_nothing() -> None:
    engine = LocalEngine(EngineSettings())
    assert engine.generate([], Control()) == []
    assert engine.status().state is EngineState.UNLOADED


def test_an_unused_engine_closes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.local.engine.CLOSE_WAIT_S", 30.0)
    engine = LocalEngine(EngineSettings())
    before = time.monotonic()
    engine.close()
    engine.close()
    assert time.monotonic() - before < 10
    with pytest.raises(EngineUnavailable, match="shutting down"):
        engine.load()


def test_offloaded_model_comes_back_for_the_next_call(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, llm = loaded(monkeypatch)
    engine.offload()
    assert engine.status().state is EngineState.OFFLOADED
    engine.offload()
    assert ask(engine) == "reply"
    assert engine.status().state is EngineState.READY
    assert llm.done == ["sleep 1", "wake up"]


def test_coming_back_is_a_phase_and_takes_time(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _ = loaded(monkeypatch)
    engine.offload()
    phases: list[str] = []
    assert engine.load(phases.append) > 0
    assert phases == ["bringing the model back to the GPU"]


def test_offloaded_model_can_be_released(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, llm = loaded(monkeypatch)
    engine.offload()
    engine.release()
    assert (engine.status().state, llm.done) == (EngineState.UNLOADED, ["sleep 1", "shutdown"])


def test_without_a_model_there_is_nothing_to_offload() -> None:
    engine = LocalEngine(EngineSettings())
    engine.offload()
    assert engine.status().state is EngineState.UNLOADED


@pytest.mark.parametrize(
    ("device", "told"),
    [("cpu", r"not supported on this backend \(cpu\)"), ("cuda", "enable_sleep_mode from VLLM_EXTRA_ENGINE_ARGS")],
)
def test_backend_without_sleep_refuses_and_stays_ready(monkeypatch: pytest.MonkeyPatch, device: str, told: str) -> None:
    engine, llm = loaded(monkeypatch, device, can_offload=False)
    with pytest.raises(OffloadUnsupported, match=told) as caught:
        engine.offload()
    assert "release_gpu" in str(caught.value)
    assert (engine.status().state, llm.done) == (EngineState.READY, [])


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (RuntimeError("CUDA out of memory"), OutOfMemory),
        (RuntimeError("at 0x7f00aabbccdd"), EngineDied),
        (SystemExit(2), EngineDied),
    ],
)
def test_failed_wake_up_drops_the_engine_and_the_next_call_loads_it(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException, told: type[Exception]
) -> None:
    engine, llm = loaded(monkeypatch)
    engine.offload()
    llm.raises = raised
    with pytest.raises(told) as caught:
        ask(engine)
    assert engine.status().state is EngineState.FAILED
    assert engine.status().error == str(caught.value)
    assert "0x" not in str(caught.value)
    assert ask(engine) == "reply"
    assert llm.done == ["sleep 1", "wake up", "shutdown"]


def test_failed_offload_drops_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, llm = loaded(monkeypatch)
    llm.raises = RuntimeError("no")
    with pytest.raises(EngineDied):
        engine.offload()
    assert engine.status().state is EngineState.FAILED


def test_a_library_that_exits_during_a_load_is_told_and_the_next_call_loads_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, _ = loaded(monkeypatch)
    engine.release()
    load, exits = LocalEngine._load, [SystemExit(2)]

    def exits_once(engine: LocalEngine, on_phase: Any) -> None:
        if exits:
            raise exits.pop()
        load(engine, on_phase)

    monkeypatch.setattr(LocalEngine, "_load", exits_once)
    with pytest.raises(EngineUnavailable, match=r"^Failed to initialize vLLM: "):
        ask(engine)
    assert engine.status().state is EngineState.FAILED
    assert ask(engine) == "reply"


def test_answering_counts_as_use_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, _ = loaded(monkeypatch)
    before_s = time.monotonic()
    ask(engine)
    last_used_s = engine.status().last_used_s
    assert last_used_s is not None
    assert last_used_s >= before_s


def test_engine_in_this_process_runs_in_this_process() -> None:
    assert LocalEngine(EngineSettings()).process_ids() == [os.getpid()]


WAIT_S = 30.0


class HeldScheduler:
    """Generations that wait until they are let go, to answer, or to find the engine broken by `error`."""

    def __init__(self) -> None:
        self.broken: BaseException | None = None
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.inside = threading.Semaphore(0)

    def close(self) -> None: ...

    def generate(self, conversations: Any, control: Control) -> list[Completion]:
        self.inside.release()
        assert self.gate.wait(WAIT_S)
        if self.error is not None:
            self.broken = self.error
            raise EngineBroken from self.error
        return [Completion("reply") for _ in conversations]


def held(monkeypatch: pytest.MonkeyPatch) -> tuple[LocalEngine, Any, HeldScheduler]:
    """A loaded engine whose generations are held."""
    engine, llm = loaded(monkeypatch)
    scheduler = HeldScheduler()
    engine._model = model(llm, scheduler)
    return engine, llm, scheduler


def test_broken_engine_is_told_to_all_and_dropped_once(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, llm, scheduler = held(monkeypatch)
    with ThreadPoolExecutor() as pool:
        asked = [pool.submit(ask, engine) for _ in range(4)]
        for _ in asked:
            assert scheduler.inside.acquire(timeout=WAIT_S)
        scheduler.error = RuntimeError("inside the model")
        scheduler.gate.set()
        for future in asked:
            with pytest.raises(EngineDied, match="next call loads it again"):
                future.result(WAIT_S)
    assert llm.done == ["shutdown"]
    assert engine.status().state is EngineState.FAILED
    assert ask(engine) == "reply"
    assert engine.status().state is EngineState.READY


def test_call_that_comes_after_the_break_loads_afresh(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, llm, scheduler = held(monkeypatch)
    scheduler.broken = RuntimeError("inside the model")  # found out by a generation that has not left yet
    assert ask(engine) == "reply"
    assert llm.done == ["shutdown"]


def test_release_waits_for_those_in_flight_and_later_ones_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, llm, scheduler = held(monkeypatch)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(ask, engine)
        assert scheduler.inside.acquire(timeout=WAIT_S)
        released = pool.submit(engine.release)
        while not engine._use._n_waiting:
            time.sleep(0.001)
        later = pool.submit(ask, engine)
        assert not llm.done
        scheduler.gate.set()
        assert (first.result(WAIT_S), later.result(WAIT_S)) == ("reply", "reply")
        released.result(WAIT_S)
    assert llm.done == ["shutdown"]
    assert engine.status().state is EngineState.READY


def test_those_who_need_the_model_at_the_same_time_load_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    gate, n_loads, told = threading.Event(), list[int](), list[str]()

    def load(engine: LocalEngine, on_phase: Any) -> None:
        n_loads.append(1)
        on_phase("loading weights")
        assert gate.wait(WAIT_S)
        engine._model = model(SleepyLLM())

    monkeypatch.setattr(LocalEngine, "_load", load)
    engine = LocalEngine(EngineSettings())
    control = Control(on_phase=told.append, on_ready=lambda: told.append("over"))
    with ThreadPoolExecutor() as pool:
        asked = [pool.submit(engine.generate, [Conversation((), Sampling(0.0, 1))], control) for _ in range(4)]
        while len(told) < 4:
            time.sleep(0.001)
        assert not any(future.done() for future in asked)
        gate.set()
        assert [future.result(WAIT_S)[0].text for future in asked] == ["reply"] * 4
    assert (len(n_loads), told) == (1, ["loading weights"] * 4 + ["over"] * 4)


@pytest.mark.parametrize("n_callers", [1, 2])
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_whatever_a_library_throws_in_a_load_the_load_has_failed_and_may_be_tried_again(
    kind: type[BaseException], n_callers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(engine: LocalEngine, on_phase: Any) -> None:
        raise kind("/a/path")

    monkeypatch.setattr(LocalEngine, "_load", load)
    engine = LocalEngine(EngineSettings(), n_callers=n_callers)
    for _ in range(2):
        with pytest.raises(
            EngineUnavailable, match=rf"^Failed to initialize vLLM: a library gave up \({kind.__name__}"
        ):
            engine.load()
        assert engine.status().state is EngineState.FAILED


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_whatever_a_library_throws_when_the_model_is_moved_the_engine_is_dropped(
    kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _ = loaded(monkeypatch)

    def throw(adapter: EngineAdapter) -> None:
        raise kind

    monkeypatch.setattr(EngineAdapter, "sleep", throw)
    with pytest.raises(EngineDied):
        engine.offload()
    assert engine.status().state is EngineState.FAILED
