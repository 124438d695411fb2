"""The memory for models: whether one more fits, and how one gives way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import EngineDied
from engine.interface import EngineState
from engine.room import MachineRoom
from settings import EngineSettings
from tests.unit.fake_engine import FakeEngine

GIB = 1 << 30


class Machine:
    """Models with weights of a GiB each, and what is free; a model takes its weights from the host when it sleeps."""

    def __init__(self, folder: Path, *names: str, can_offload: bool = False, share: float = 0.4) -> None:
        self.free_bytes: int | None = 100 * GIB
        self.engines = {name: FakeEngine(model_name=name, ready=True, can_offload=can_offload) for name in names}
        settings = {}
        for name in names:
            (folder / name).mkdir()
            with (folder / name / "model.safetensors").open("wb") as file:
                file.truncate(GIB)
            settings[name] = EngineSettings(model_name=str(folder / name), gpu_memory_utilization=share)
        self.settings = settings
        self.room = MachineRoom(settings, lambda: self.engines, lambda: self.free_bytes)
        self.phases: list[str] = []

    def give_way(self, name: str) -> EngineState:
        self.room.give_way(name, self.phases.append)
        return self.engines[name].status().state


@pytest.mark.parametrize(("free_gib", "fits"), [(2.3, True), (2.1, False), (None, True)])
def test_on_a_cpu_the_free_memory_decides(tmp_path: Path, free_gib: float | None, fits: bool) -> None:
    """The model needs 1.2 times its weights, and a GiB."""
    machine = Machine(tmp_path, "a", "b")
    machine.free_bytes = None if free_gib is None else int(free_gib * GIB)
    assert machine.room.fits("b", ["a"]) is fits


def test_on_a_cpu_a_kv_cache_of_the_settings_counts(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "a", "b")
    machine.free_bytes = 4 * GIB
    assert machine.room.fits("b", ["a"])
    machine.settings["b"] = EngineSettings(model_name=machine.settings["b"].model_name, cpu_kvcache_space_gib=2)
    assert not machine.room.fits("b", ["a"])


def test_a_model_of_unknown_size_is_tried(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "a")
    machine.free_bytes = 1
    machine.settings["b"] = EngineSettings(model_name="org/not-downloaded", hf_cache=str(tmp_path))
    assert machine.room.fits("b", ["a"])


@pytest.mark.parametrize(("share", "fits"), [(1 / 3, True), (0.34, False)])
def test_on_a_gpu_the_shares_decide(tmp_path: Path, share: float, fits: bool) -> None:
    machine = Machine(tmp_path, "a", "b", "c", can_offload=True, share=share)
    assert machine.room.fits("c", ["a", "b"]) is fits
    assert machine.room.fits("b", ["a"])


def test_without_offloading_a_model_is_released(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "a")
    assert machine.give_way("a") is EngineState.UNLOADED
    assert machine.phases == ["releasing a to make room"]


def test_a_model_on_a_gpu_is_offloaded(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "a", can_offload=True)
    assert machine.give_way("a") is EngineState.OFFLOADED
    assert machine.phases == ["offloading a to make room"]


def test_a_model_that_the_host_has_no_memory_for_is_released(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "a", can_offload=True)
    machine.free_bytes = GIB - 1
    assert machine.give_way("a") is EngineState.UNLOADED


def test_offloaded_models_are_released_where_the_host_needs_their_memory(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "old", "new", "a", can_offload=True)
    machine.engines["old"].last_used_s, machine.engines["new"].last_used_s = 1.0, 2.0
    for name in ("old", "new"):
        machine.engines[name].offload()
    sizes = iter([0, 2 * GIB, 2 * GIB])
    machine.room = MachineRoom(machine.settings, lambda: machine.engines, lambda: next(sizes))
    assert machine.give_way("a") is EngineState.OFFLOADED
    assert [machine.engines[name].status().state for name in ("old", "new")] == [
        EngineState.UNLOADED,
        EngineState.OFFLOADED,
    ]


def test_what_goes_wrong_as_a_model_gives_way_is_not_the_callers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(tmp_path, "a", can_offload=True)

    def dies() -> Iterator[None]:
        raise EngineDied("the core is gone")

    monkeypatch.setattr(machine.engines["a"], "offload", dies)
    machine.give_way("a")
