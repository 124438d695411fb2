"""Which models are in memory, over fake engines: what gives way, who waits, and what ends the waiting."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterator

import pytest

from engine.errors import EngineUnavailable, GenerationCancelled, GenerationFailed, OutOfMemory
from engine.interface import EngineState, OnPhase
from engine.residency import Residency, Wait
from sandbox.cancellation import Cancellation
from tests.unit.fake_engine import FakeEngine
from tests.waiting import wait_until


class House:
    """Models by their names, the room for them, and a record of what happened."""

    def __init__(self, *names: str, max_loaded: int | None = None, fits: int = 99) -> None:
        self.engines = {name: RecordedEngine(name, self) for name in names}
        self.n_fitting = fits
        self.events: list[str] = []
        self.give_way_gate: threading.Event | None = None
        self.residency = Residency(self.engines.__getitem__, lambda: self.engines, self, max_loaded)

    def fits(self, name: str, loaded: Collection[str]) -> bool:
        return len(loaded) < self.n_fitting

    def give_way(self, name: str, on_phase: OnPhase) -> None:
        assert not self.residency.n_users(name)
        on_phase(f"releasing {name} to make room")
        if self.give_way_gate is not None:
            assert self.give_way_gate.wait(60)
        self.events.append(f"-{name}")
        self.engines[name].release()

    @contextlib.contextmanager
    def using(self, name: str, on_phase: OnPhase = lambda phase: None, **options: object) -> Iterator[float]:
        with self.residency.in_use(Wait(name, on_phase, **options)) as load_s:  # type: ignore[arg-type]
            assert self.engines[name].status().state is EngineState.READY
            yield load_s

    def use(self, name: str, **options: object) -> float:
        with self.using(name, **options) as load_s:  # type: ignore[arg-type]
            return load_s

    @property
    def loaded(self) -> set[str]:
        return {name for name, engine in self.engines.items() if engine.status().state is EngineState.READY}


class RecordedEngine(FakeEngine):
    """Its loads are events; one at a time may load."""

    def __init__(self, name: str, house: House) -> None:
        super().__init__(model_name=name)
        self.house = house
        self.failures: list[Exception] = []
        self.lock = threading.Lock()

    def load(self, on_phase: OnPhase | None = None) -> float:
        with self.lock:
            if self._state is EngineState.READY:
                return 0.0
            if self.failures:
                self._state = EngineState.FAILED
                raise self.failures.pop(0)
            load_s = super().load(on_phase)
            self.house.events.append(f"+{self.model_name}")
            return load_s


class Background:
    """Runs something in a thread; `result` waits for it."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.error: BaseException | None = None
        self.value: object = None
        self._work = work
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.value = self._work()
        except BaseException as error:
            self.error = error

    @property
    def is_over(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> object:
        self._thread.join(60)
        assert self.is_over, "it still waits"
        if self.error is not None:
            raise self.error
        return self.value


class Holder(Background):
    """Uses a model in a thread until `leave`; `began` is set once it has it."""

    def __init__(self, house: House, name: str, **options: object) -> None:
        self.began, self._end = threading.Event(), threading.Event()
        self.phases: list[str] = []
        self._house, self._name, self._options = house, name, options
        super().__init__(self._hold)

    def _hold(self) -> None:
        with self._house.using(self._name, self.phases.append, **self._options):
            self.began.set()
            assert self._end.wait(60)

    def leave(self) -> None:
        self._end.set()
        self.result()


def test_models_that_fit_stay() -> None:
    house = House("a", "b")
    assert [house.use(name) > 0 for name in "abab"] == [True, True, False, False]
    assert house.events == ["+a", "+b"]


def test_the_model_used_longest_ago_gives_way() -> None:
    house = House("a", "b", "c", max_loaded=2)
    for name in "abac":
        house.use(name)
    assert house.loaded == {"a", "c"}
    assert house.events == ["+a", "+b", "-b", "+c"]


def test_as_many_give_way_as_the_room_needs() -> None:
    house = House("a", "b", "c")
    house.use("a")
    house.use("b")
    house.n_fitting = 1
    house.use("c")
    assert house.events == ["+a", "+b", "-a", "-b", "+c"]


def test_a_model_that_never_fits_is_tried_alone() -> None:
    house = House("a", "b", fits=0)
    house.use("a")
    house.use("b")
    assert house.events == ["+a", "-a", "+b"]


def test_progress_tells_what_gives_way_and_what_is_waited_for() -> None:
    house = House("a", "b", max_loaded=1)
    first = Holder(house, "a")
    assert first.began.wait(60)
    second = Holder(house, "b")
    wait_until(lambda: second.phases == ["waiting until a is free"])
    first.leave()
    assert second.began.wait(60)
    second.leave()
    assert second.phases == [
        "waiting until a is free",
        "releasing a to make room",
        "importing vLLM",
        "loading weights",
    ]


def test_a_model_in_use_does_not_give_way() -> None:
    house = House("a", "b", "c", max_loaded=2)
    busy = Holder(house, "a")
    assert busy.began.wait(60)
    house.use("b")
    house.use("c")  # not a, although it was used longest ago
    assert house.events == ["+a", "+b", "-b", "+c"]
    busy.leave()


def test_nobody_begins_to_use_a_model_that_another_call_waits_for() -> None:
    house = House("a", "b", max_loaded=1)
    first = Holder(house, "a")
    assert first.began.wait(60)
    second = Holder(house, "b")
    wait_until(lambda: bool(second.phases))
    third = Holder(house, "a")
    wait_until(lambda: bool(third.phases))
    assert not third.began.is_set()
    first.leave()
    assert second.began.wait(60)
    assert not third.began.is_set()
    second.leave()
    assert third.began.wait(60)
    third.leave()
    assert house.events == ["+a", "-a", "+b", "-b", "+a"]


def test_other_models_are_used_while_a_call_waits() -> None:
    house = House("a", "b", "c", max_loaded=2)
    holders = [Holder(house, name) for name in "ab"]
    assert all(holder.began.wait(60) for holder in holders)
    claimed = min("ab", key=house.residency._used)
    other = "b" if claimed == "a" else "a"
    third = Holder(house, "c")
    wait_until(lambda: third.phases == [f"waiting until {claimed} is free"])
    house.use(other)
    holders["ab".index(other)].leave()  # and the first that is free gives way
    assert third.began.wait(60)
    assert f"-{other}" in house.events
    for holder in (third, holders["ab".index(claimed)]):
        holder.leave()


def test_a_load_serves_all_that_wait_for_the_model() -> None:
    house = House("a", "b", max_loaded=1)
    first = Holder(house, "a")
    assert first.began.wait(60)
    others = [Holder(house, name) for name in "bab"]
    wait_until(lambda: len(house.residency._queue) == 3)
    first.leave()
    assert others[0].began.wait(60)
    assert others[2].began.wait(60)
    for holder in (others[0], others[2], others[1]):
        holder.leave()
    assert house.events.count("+b") == 1


def test_cancelled_while_waiting() -> None:
    house = House("a", "b", max_loaded=1)
    first = Holder(house, "a")
    assert first.began.wait(60)
    cancellation = Cancellation()
    second = Holder(house, "b", cancellation=cancellation)
    wait_until(lambda: bool(second.phases))
    cancellation.set()
    with pytest.raises(GenerationCancelled):
        second.result()
    house.use("a")  # nobody waits for it any more
    first.leave()
    assert house.events == ["+a"]


def test_late_while_waiting() -> None:
    house = House("a", "b", max_loaded=1)
    with house.using("a"):
        late = Holder(house, "b", deadline_s=time.monotonic() + 0.05)
        with pytest.raises(GenerationFailed, match="before the model b could be loaded"):
            late.result()
    assert house.use("b") > 0


def test_the_end_of_the_server_ends_the_waiting() -> None:
    house = House("a", "b", max_loaded=1)
    with house.using("a"):
        second = Holder(house, "b")
        wait_until(lambda: bool(second.phases))
        house.residency.close()
        with pytest.raises(EngineUnavailable, match="shutting down"):
            second.result()


def test_a_model_that_fails_leaves_the_others_alone() -> None:
    house = House("a", "broken")
    house.use("a")
    house.engines["broken"].failures = [EngineUnavailable("no weights")]
    with pytest.raises(EngineUnavailable, match="no weights"):
        house.use("broken")
    assert house.use("a") == 0.0
    assert house.residency.n_users("broken") == 0
    assert house.use("broken") > 0


def test_a_load_without_memory_is_tried_again_when_an_idle_model_gave_way() -> None:
    house = House("a", "b")
    house.use("a")
    house.engines["b"].failures = [OutOfMemory("none left")]
    house.use("b")
    assert house.events == ["+a", "-a", "+b"]


def test_a_load_without_memory_is_tried_again_once() -> None:
    house = House("a", "b", "c")
    house.use("a")
    house.use("b")
    house.engines["c"].failures = [OutOfMemory("none left"), OutOfMemory("none left again")]
    with pytest.raises(OutOfMemory, match="again"):
        house.use("c")
    assert house.loaded == {"b"}


def test_a_model_in_use_does_not_give_way_to_a_load_without_memory() -> None:
    house = House("a", "b")
    with house.using("a"):
        house.engines["b"].failures = [OutOfMemory("none left")]
        with pytest.raises(OutOfMemory):
            Background(lambda: house.use("b")).result()
    assert house.loaded == {"a"}


def test_a_call_that_joined_the_failed_load_gets_the_model_too() -> None:
    house = House("a", "b")
    house.use("a")
    house.give_way_gate = threading.Event()
    engine = house.engines["b"]
    engine.load_gate = threading.Event()
    engine.load_error = OutOfMemory("none left")
    first = Holder(house, "b")
    assert engine.loading.wait(60)
    joined = Holder(house, "b")
    wait_until(lambda: house.residency.n_users("b") == 2)
    engine.load_gate.set()
    wait_until(lambda: "releasing a to make room" in first.phases)
    engine.load_error = None
    house.give_way_gate.set()
    assert first.began.wait(60)
    first.leave()
    if joined.error is None:
        assert joined.began.wait(60)
        joined.leave()


def test_a_thread_that_uses_a_model_does_not_wait_for_itself() -> None:
    house = House("a", "b", "c", max_loaded=1)
    with house.using("a"), house.using("b"), house.using("a"):
        assert house.loaded == {"a", "b"}
    house.use("c")
    assert house.loaded == {"c"}


def test_two_threads_that_use_a_model_each_and_need_a_third_go_on() -> None:
    house = House("a", "b", "c", "d", max_loaded=2)
    barrier = threading.Barrier(2)

    def nested(first: str, second: str) -> None:
        with house.using(first):
            barrier.wait(60)
            with house.using(second):
                barrier.wait(60)

    threads = [Background(lambda: nested("a", "c")), Background(lambda: nested("b", "d"))]
    for thread in threads:
        thread.result()


@pytest.mark.parametrize("max_loaded", [1, 2])
def test_four_callers_in_turn_and_at_once(max_loaded: int) -> None:
    """No call waits without end, no model is used that is not loaded, and no more are loaded than may be."""
    house = House("a", "b", "c", max_loaded=max_loaded)
    most = 0

    def call(offset: int) -> None:
        nonlocal most
        for index in range(25):
            with house.using("abc"[(index * (offset + 1) + offset) % 3]):
                most = max(most, len(house.loaded))

    for thread in [Background(lambda offset=offset: call(offset)) for offset in range(4)]:  # type: ignore[misc]
        thread.result()
    assert most <= max_loaded
    assert not any(house.residency.n_users(name) for name in "abc")


def test_a_use_of_a_ready_model_takes_microseconds() -> None:
    house = House("a", "b")
    house.use("a")
    house.use("b")
    begin_s = time.perf_counter()
    for _ in range(500):
        house.use("a")
        house.use("b")
    print(f"a use takes {(time.perf_counter() - begin_s) * 1e3:.1f} µs")
    assert house.events == ["+a", "+b"]


def test_model_is_taken_only_while_no_call_uses_it() -> None:
    house = House("a", "b")
    house.use("b")
    with house.using("a"), house.residency.unused("a") as is_unused:
        assert not is_unused
    with house.residency.unused("b") as is_unused:
        assert is_unused
        house.engines["b"].release()
    assert house.use("b") > 0


def test_call_that_begins_while_its_model_is_taken_waits_and_loads_it_again() -> None:
    house = House("a")
    house.use("a")
    with house.residency.unused("a"):
        holder = Holder(house, "a")
        assert not holder.began.wait(0.05)
        house.engines["a"].release()
    assert holder.began.wait(60)
    holder.leave()
    assert house.events == ["+a", "+a"]


def test_each_load_is_surrounded_but_no_use_of_a_loaded_model() -> None:
    house = House("a")
    surrounded: list[str] = []

    @contextlib.contextmanager
    def around_load(wait: Wait) -> Iterator[None]:
        surrounded.append(wait.name)
        yield
        surrounded.append(house.engines[wait.name].status().state)

    residency = Residency(house.engines.__getitem__, lambda: house.engines, house, None, around_load)
    for _ in range(2):
        with residency.in_use(Wait("a", lambda phase: None)):
            assert surrounded == ["a", "ready"]


def test_call_that_is_cancelled_before_its_load_loads_nothing() -> None:
    house, cancellation = House("a"), Cancellation()

    @contextlib.contextmanager
    def around_load(wait: Wait) -> Iterator[None]:
        wait.cancellation.set()
        yield

    residency = Residency(house.engines.__getitem__, lambda: house.engines, house, None, around_load)
    with pytest.raises(GenerationCancelled), residency.in_use(Wait("a", lambda phase: None, cancellation)):
        raise AssertionError("it must not begin")
    assert house.loaded == set()
    assert residency.n_users("a") == 0
