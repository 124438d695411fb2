"""Sleep mode over a fake engine core in a process of its own."""

import threading
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from engine.local.adapter import CoreGone, EngineAdapter


class FakeCore:
    """An engine core whose answers come when the test gives them."""

    def __init__(self) -> None:
        self.resources = SimpleNamespace(engine_dead=False)
        self.utility_results: dict[int, Future[Any]] = {}
        self.asked = threading.Event()

    def call(self) -> Any:
        future: Future[Any] = Future()
        self.utility_results[0] = future
        self.asked.set()
        return future.result(30)


def llm(core: Any) -> Any:
    return SimpleNamespace(
        llm_engine=SimpleNamespace(engine_core=core), sleep=lambda level: core.call(), wake_up=lambda: core.call()
    )


@pytest.mark.parametrize("act", [EngineAdapter.sleep, EngineAdapter.wake_up])
def test_death_of_the_core_ends_the_wait_for_its_answer(act: Any) -> None:
    core = FakeCore()

    def dies() -> None:
        assert core.asked.wait(30)
        core.resources.engine_dead = True

    threading.Thread(target=dies).start()
    with pytest.raises(CoreGone):
        act(EngineAdapter(llm(core)))


def test_answer_ends_the_watch() -> None:
    core = FakeCore()

    def answers() -> None:
        assert core.asked.wait(30)
        core.utility_results[0].set_result(None)

    threading.Thread(target=answers).start()
    EngineAdapter(llm(core)).sleep()
    for thread in threading.enumerate():
        if thread.name == "engine-core-watch":
            thread.join(30)
            assert not thread.is_alive()


def test_engine_in_this_process_needs_no_watch() -> None:
    levels: list[int] = []
    core = SimpleNamespace()
    EngineAdapter(
        SimpleNamespace(llm_engine=SimpleNamespace(engine_core=core), sleep=lambda level: levels.append(level))
    ).sleep()
    assert levels == [1]
