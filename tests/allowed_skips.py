"""The reasons for which a test may be skipped in CI. Any other skip fails the run.

A reason is on the list only when it is a fact about the machine that this project cannot change. A package or a client
that could not be installed is none: the test must run or the run must fail. The real models are an exception: others
made them, and they are no part of what is tested.
"""

from __future__ import annotations

import os
import re
from typing import TypeVar

import pytest

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

ALLOWED_SKIPS = {
    "the driver (pynvml) finds no NVIDIA GPU on this machine": "a GPU is hardware",
    "this machine has an NVIDIA GPU, so vLLM does not run on its CPU": "a GPU is hardware",
    "this machine is no Linux on x86-64, for which the pinned Chromium is made": "the processor belongs to the machine",
    "this machine has no systemd": "the init system belongs to the machine; containers have none",
    "this machine lets nobody mount in a namespace": "the kernel or the container forbids it",
    "this machine has no /proc/…": "the kernel or the container does not offer the file",
    "this machine has no /sys/…": "the kernel or the container does not offer the file",
    "no other signal can be asked for": "F_SETSIG exists on Linux only",
    "the guard needs Linux": "memfd_create exists on Linux only",
    "no package index can be reached, so the real models cannot be made": "the network belongs to the machine",
    "this machine's python3 has msgspec, so nothing is handed over": "the packages of the system's Python",
}
"""Each reason with why the project cannot change it; "…" stands for any text."""
_PATTERN = re.compile(
    "|".join("(?:" + ".*".join(map(re.escape, reason.split("…"))) + ")" for reason in ALLOWED_SKIPS), re.DOTALL
)


def is_allowed(reason: str) -> bool:
    """Whether the list has this reason."""
    return _PATTERN.fullmatch(reason) is not None


def forbid_other_skips(report: Report) -> Report:
    """Turns a skip into a failure where the environment has CI and the list does not have its reason."""
    if not report.skipped or hasattr(report, "wasxfail") or not os.environ.get("CI"):
        return report
    place = report.longrepr
    reason = str(place[2] if isinstance(place, tuple) else place).removeprefix("Skipped: ")
    if not is_allowed(reason):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI for a reason that tests/allowed_skips.py does not have: {reason}"
    return report
