"""torchvision for one process of a test, where the server's environment has none.

PyPI's builds of torchvision belong to CUDA builds of torch; beside a CPU build they break the import of vLLM, so
`scripts/setup` removes them. The models that need it can still be tested: `environment` puts such a build and the hook
that makes it importable on one process's PYTHONPATH.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

from tests.e2e import environments

HOOK = Path(__file__).with_name("torchvision_hook")
BUILD_TIMEOUT_S = 300


@cache
def environment() -> dict[str, str]:
    """The variables of a process that is to import torchvision; skips the test where none can be had."""
    if importlib.util.find_spec("torchvision") is not None:
        return {}
    # torch 2.13 goes with torchvision 0.28, and both have counted on by one together since 2.0 and 0.15.
    minor = int(importlib.metadata.version("torch").split(".")[1])
    folder = environments.packages("torchvision", [f"torchvision==0.{minor + 15}.*"])
    return {"PYTHONPATH": os.pathsep.join((str(HOOK), str(folder)))}


def folder_of(model: str) -> str:
    """The folder of one of the models of `tiny_torchvision`."""
    run = subprocess.run(
        [sys.executable, "-m", "tests.e2e.tiny_torchvision", model],
        cwd=environments.ROOT,
        env={**os.environ, **environment()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BUILD_TIMEOUT_S,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout.split()[-1]
