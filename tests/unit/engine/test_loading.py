"""One load for all who ask for it at the same time."""

import threading

import pytest

from engine.errors import EngineUnavailable
from engine.interface import OnPhase
from engine.loading import SharedLoad

WAIT_S = 30.0


class Loads:
    """Loads that a test holds in their second phase, and callers in threads of their own."""

    def __init__(self, error: Exception | None = None) -> None:
        self.shared = SharedLoad()
        self.error = error
        self.n_loads = 0
        self.gate = threading.Event()
        self.heard: list[threading.Event] = []
        self.told: list[list[str]] = []
        self.ends: list[BaseException | float] = []

    def load(self, on_phase: OnPhase) -> None:
        self.n_loads += 1
        on_phase("importing")
        on_phase("weights")
        assert self.gate.wait(WAIT_S)
        if self.error is not None:
            raise self.error

    def caller(self) -> threading.Thread:
        """Asks for the model in a thread of its own; returns when it waits for the load."""
        told, heard = list[str](), threading.Event()
        self.told.append(told)

        def listen(phase: str) -> None:
            told.append(phase)
            if phase == "weights":
                heard.set()

        def ask() -> None:
            try:
                self.ends.append(self.shared.run(self.load, listen))
            except EngineUnavailable as error:
                self.ends.append(error)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        assert heard.wait(WAIT_S)
        return thread


@pytest.mark.parametrize("error", [None, EngineUnavailable("no model")])
def test_all_wait_for_one_load_and_hear_its_phases_and_its_end(error: Exception | None) -> None:
    loads = Loads(error)
    threads = [loads.caller() for _ in range(4)]
    loads.gate.set()
    for thread in threads:
        thread.join(WAIT_S)
    assert loads.n_loads == 1
    assert loads.told == [["importing", "weights"], *[["weights"]] * 3]
    if error is None:
        assert all(isinstance(end, float) for end in loads.ends)
    else:
        assert [str(end) for end in loads.ends] == ["no model"] * 4
        assert len({id(end) for end in loads.ends}) == 4


def test_next_one_loads_again() -> None:
    loads = Loads(EngineUnavailable("no model"))
    loads.gate.set()
    loads.caller().join(WAIT_S)
    loads.error = None
    loads.caller().join(WAIT_S)
    assert loads.n_loads == 2
    assert isinstance(loads.ends[1], float)


def test_load_that_is_interrupted_is_an_error_for_those_who_waited() -> None:
    shared, loading, gate, ends = SharedLoad(), threading.Event(), threading.Event(), list[BaseException]()

    def breaks_off(on_phase: OnPhase) -> None:
        on_phase("weights")
        assert gate.wait(WAIT_S)
        raise SystemExit

    def first() -> None:
        with pytest.raises(SystemExit):
            shared.run(breaks_off, lambda phase: loading.set())

    def second() -> None:
        with pytest.raises(EngineUnavailable, match="interrupted"):
            shared.run(breaks_off, lambda phase: gate.set())
        ends.append(EngineUnavailable())

    threads = [threading.Thread(target=run, daemon=True) for run in (first, second)]
    threads[0].start()
    assert loading.wait(WAIT_S)
    threads[1].start()
    for thread in threads:
        thread.join(WAIT_S)
    assert len(ends) == 1
