"""From which state the engine may go where, and what its status remembers."""

import pytest

from engine.interface import EngineState, EngineStatus
from engine.lifecycle import TRANSITIONS, Lifecycle


def lifecycle(*states: EngineState) -> Lifecycle:
    made = Lifecycle(EngineStatus(EngineState.UNLOADED, "model"))
    for state in states:
        made.move(state)
    return made


def test_every_state_has_a_row_and_none_leads_to_itself() -> None:
    assert set(TRANSITIONS) == set(EngineState)
    assert not [state for state, targets in TRANSITIONS.items() if state in targets or not targets]


def test_a_failed_load_keeps_its_error_until_the_next_one() -> None:
    engine = lifecycle(EngineState.LOADING)
    engine.move(EngineState.FAILED, error="no such model")
    assert engine.status.error == "no such model"
    engine.move(EngineState.LOADING)
    assert engine.status.error is None


def test_what_a_load_found_out_survives_a_release() -> None:
    engine = lifecycle(EngineState.LOADING)
    engine.move(EngineState.READY, max_model_len=1024)
    engine.move(EngineState.UNLOADED)
    assert engine.status.max_model_len == 1024


@pytest.mark.parametrize("target", [EngineState.READY, EngineState.FAILED, EngineState.UNLOADED])
def test_transitions_outside_the_table_are_refused(target: EngineState) -> None:
    with pytest.raises(RuntimeError, match="cannot go"):
        lifecycle().move(target)


def test_use_is_remembered_while_the_model_is_somewhere() -> None:
    engine = lifecycle(EngineState.LOADING)
    assert engine.status.last_used_s is None
    engine.move(EngineState.READY)
    loaded_s = engine.status.last_used_s
    assert loaded_s is not None
    engine.touch()
    used_s = engine.status.last_used_s
    assert used_s is not None
    assert used_s >= loaded_s
    engine.move(EngineState.OFFLOADED)
    assert engine.status.last_used_s == used_s
    engine.move(EngineState.UNLOADED)
    assert engine.status.last_used_s is None
