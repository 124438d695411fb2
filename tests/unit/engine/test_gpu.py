"""The driver's figures: taken as they are, missing where the driver has none."""

import sys

import pytest

from engine.hardware import gpu
from engine.hardware.gpu import Device
from tests.unit.engine.fake_nvml import GB, Card, FakeNvml


def devices(monkeypatch: pytest.MonkeyPatch, *cards: Card, driver: bool = True) -> tuple[Device, ...]:
    """What is measured of these cards, for a server of the processes 1 and 2."""
    nvml = FakeNvml(*cards, driver=driver)
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    measured = gpu.devices([1, 2])
    assert nvml.opened == 0
    return measured


def test_all_figures_are_the_drivers(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(used=9 * GB, processes=[(1, 2 * GB), (2, 5 * GB), (3, GB)])
    assert devices(monkeypatch, card) == (Device(0, "NVIDIA Test 24GB", 24 * GB, 9 * GB, 15 * GB, 7 * GB, 12, 45),)


def test_every_card_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [device.index for device in devices(monkeypatch, Card(), Card(), Card())] == [0, 1, 2]


def test_what_the_driver_does_not_tell_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(name=None, total=None, load=None, temperature=None, processes=None)
    assert devices(monkeypatch, card) == (Device(0, None, None, None, None, None, None, None),)


def test_name_may_come_as_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    (device,) = devices(monkeypatch, Card(name=b"NVIDIA Old"))  # type: ignore[arg-type]
    assert device.name == "NVIDIA Old"


@pytest.mark.parametrize(
    ("processes", "held"),
    [
        ([], 0),
        ([(1, GB)], GB),
        ([(1, None)], None),
        ([(9, GB)], None),  # ids of another namespace: ours may be among them
    ],
)
def test_own_share_is_known_only_where_the_driver_lists_our_processes(
    monkeypatch: pytest.MonkeyPatch, processes: list[tuple[int, int | None]], held: int | None
) -> None:
    (device,) = devices(monkeypatch, Card(processes=processes))
    assert device.server_bytes == held


def test_without_a_driver_or_a_card_there_is_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices(monkeypatch, driver=False) == ()
    assert devices(monkeypatch) == ()
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert gpu.devices([1]) == ()
