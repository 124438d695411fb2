"""Figures of this machine, and the calls for those of Windows and macOS."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

import pytest

from operating_system import machine


def test_this_machine_reports_its_figures() -> None:
    total, free = machine.memory_bytes(), machine.free_memory_bytes()
    assert total is not None
    assert free is not None
    assert 0 < free <= total
    assert 1 <= machine.n_processors() <= (os.cpu_count() or 1)
    own = machine.resident_bytes(os.getpid())
    assert own is not None
    assert 1 << 20 < own < total


def test_process_that_does_not_exist_has_no_figure() -> None:
    assert machine.resident_bytes(1 << 30) is None


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_figures_that_cannot_be_read_are_none(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.delattr(os, "sysconf")
    monkeypatch.setattr(machine, "open", no_file, raising=False)
    assert machine.memory_bytes() is None
    assert machine.free_memory_bytes() is None
    assert machine.resident_bytes(os.getpid()) is None
    assert machine.n_processors() == os.cpu_count()
    machine.return_freed_memory()


def no_file(path: str, *_: object, **__: object) -> object:
    raise FileNotFoundError(path)


class Kernel32:
    """kernel32 with a job; its functions note their calls."""

    def __init__(self, **results: int) -> None:
        self.results = results
        self.calls: list[str] = []
        self.limits: Any = None

    def __getattr__(self, name: str) -> Any:
        def function(*arguments: Any) -> int:
            self.calls.append(name)
            if name == "SetInformationJobObject":
                self.limits = arguments[2]._obj
                assert arguments[3].value == ctypes.sizeof(self.limits) == 144
            return self.results.get(name, 1)

        return _Function(function)


class _Function:
    """A function with the attribute `restype`, as those of ctypes."""

    restype: Any = None

    def __init__(self, call: Any) -> None:
        self.call = call

    def __call__(self, *arguments: Any) -> int:
        result: int = self.call(*arguments)
        return result


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module for Windows, on any system; the test sets its kernel."""
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delitem(sys.modules, "operating_system.windows", raising=False)
    monkeypatch.setattr(ctypes, "get_last_error", lambda: 5, raising=False)
    monkeypatch.setattr(ctypes, "WinError", lambda number: OSError(number, "access is denied"), raising=False)
    import operating_system.windows

    monkeypatch.delitem(sys.modules, "operating_system.windows")
    return operating_system.windows


def test_structures_have_the_sizes_of_windows(windows: Any) -> None:
    """Of 64-bit Windows, from its headers."""
    sizes = [ctypes.sizeof(each) for each in (windows.MemoryStatus, windows.MemoryCounters, windows.JobLimits)]
    assert sizes == [64, 72, 144]
    assert (windows.JobLimits.LimitFlags.offset, windows.JobLimits.ProcessMemoryLimit.offset) == (16, 112)
    assert windows.MemoryCounters.PagefileUsage.offset == 56


def test_job_bounds_the_memory_of_a_child_and_ends_it_with_the_parent(
    windows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = Kernel32()
    monkeypatch.setattr(ctypes, "WinDLL", lambda *_, **__: kernel, raising=False)
    windows.bind_to_this_process(1, 1 << 30)
    assert kernel.calls == [
        "CreateJobObjectW",
        "SetInformationJobObject",
        "OpenProcess",
        "AssignProcessToJobObject",
        "CloseHandle",
    ]
    assert (kernel.limits.LimitFlags & 0x2100, kernel.limits.ProcessMemoryLimit) == (0x2100, 1 << 30)


@pytest.mark.parametrize("failing", ["CreateJobObjectW", "OpenProcess", "AssignProcessToJobObject"])
def test_job_that_cannot_be_made_leaves_no_handle(windows: Any, failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel32(**{failing: 0})
    monkeypatch.setattr(ctypes, "WinDLL", lambda *_, **__: kernel, raising=False)
    with pytest.raises(OSError, match="access is denied"):
        windows.bind_to_this_process(1, 1 << 30)
    opened = [name for name in ("CreateJobObjectW", "OpenProcess") if name in kernel.calls and name != failing]
    assert kernel.calls.count("CloseHandle") == len(opened)
