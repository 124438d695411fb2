"""When an unused model gives its memory back, and how."""

import pytest

from engine.idle import IdleTimeout
from engine.interface import EngineState, EngineStatus
from tests.unit.fake_engine import FakeEngine


def status(state: EngineState, last_used_s: float | None) -> EngineStatus:
    return EngineStatus(state, "model", last_used_s=last_used_s)


def test_ready_model_is_due_so_long_after_its_last_use() -> None:
    timeout = IdleTimeout(600)
    assert timeout.due_s(status(EngineState.READY, 1000.0)) == 1600.0
    timeout.timeout_s = 30
    assert timeout.due_s(status(EngineState.READY, 1000.0)) == 1030.0


def test_zero_is_never() -> None:
    assert IdleTimeout(0).due_s(status(EngineState.READY, 1000.0)) is None


@pytest.mark.parametrize("state", [state for state in EngineState if state is not EngineState.READY])
def test_only_a_ready_model_has_memory_to_give(state: EngineState) -> None:
    assert IdleTimeout(600).due_s(status(state, 1000.0)) is None


@pytest.mark.parametrize(("can_offload", "state"), [(True, EngineState.OFFLOADED), (False, EngineState.UNLOADED)])
def test_model_is_offloaded_where_that_is_possible_and_else_released(can_offload: bool, state: EngineState) -> None:
    engine = FakeEngine(ready=True, can_offload=can_offload)
    IdleTimeout(600).give_back(engine)
    assert engine.status().state is state
