"""The models behind the server, each with its own engine."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.errors import GenerationFailed, UnknownModel
from engine.interface import EngineState
from engine.models import Models
from settings import EngineSettings
from settings.kinds import ModelOptions
from tests.unit.fake_engine import FakeEngine


def models(*others: str, **settings: object) -> Models:
    named = {name: ModelOptions(f"org/{name}") for name in others}
    by_name = EngineSettings(model_name="org/first", models=named, **settings).by_name()  # type: ignore[arg-type]
    return Models(by_name, lambda name: FakeEngine(model_name=name))


def states(each: Models) -> list[EngineState]:
    return [status.state for status in each.statuses().values()]


def test_no_engine_is_made_before_a_call_needs_it() -> None:
    each = models("second")
    assert states(each) == [EngineState.UNLOADED] * 2
    assert each.engines() == {}
    with each.in_use("second") as model:
        assert (model.name, model.engine.status().state, model.load_s) == ("second", EngineState.READY, 0.5)
        assert each.n_users("second") == 1
    assert list(each.engines()) == ["second"]
    assert each.n_users("second") == 0


def test_an_unknown_model_is_named_with_those_that_there_are() -> None:
    with pytest.raises(UnknownModel, match="org/first, second"), models("second").in_use("third"):
        pass


def test_the_phases_name_the_model_where_there_are_several() -> None:
    for others, prefix in (((), ""), (("second",), "org/first: ")):
        phases: list[str] = []
        with models(*others).in_use(None, phases.append):
            assert phases == [f"{prefix}importing vLLM", f"{prefix}loading weights"]


def test_no_more_are_loaded_than_the_setting_says() -> None:
    each = models("second", "third", max_loaded_models=1)
    for name in (None, "third", "second"):
        with each.in_use(name):
            assert states(each).count(EngineState.READY) == 1


def test_models_of_a_server_elsewhere_take_no_memory_here() -> None:
    each = models("second", max_loaded_models=1, base_url="http://127.0.0.1:9/v1")
    with each.in_use("second"), each.in_use(None):
        assert states(each) == [EngineState.READY] * 2


def test_a_call_waits_for_memory_no_longer_than_its_deadline() -> None:
    each = models("second", max_loaded_models=1)

    def wait() -> None:
        with each.in_use("second", deadline_s=time.monotonic() + 0.02):
            pass

    with each.in_use(None), ThreadPoolExecutor() as threads:
        late = threads.submit(wait)
        with pytest.raises(GenerationFailed, match="before the model second could be loaded"):
            late.result(60)
