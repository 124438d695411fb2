"""The files of the package `mcp-server-vllm`: building them, and installing the wheel."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from settings import SERVER_VERSION
from tests.e2e.environments import ROOT, python_environment

NAME = f"mcp_server_vllm-{SERVER_VERSION}"
SDIST = f"{NAME}.tar.gz"
WHEEL = f"{NAME}-py3-none-any.whl"


def build_both(folder: Path) -> None:
    """Builds the sdist of this repository into a folder, and there the wheel of that sdist."""
    build(ROOT, "sdist", folder)
    with tarfile.open(folder / SDIST) as archive:
        archive.extractall(folder, filter="data")
    build(folder / NAME, "wheel", folder)


def build(source: Path, target: str, folder: Path) -> None:
    """Builds the `sdist` or the `wheel` of a source tree; skips the test where nothing can be installed."""
    output([python_environment("package"), "-m", "hatchling", "build", "-t", target, "-d", folder], source)


def output(command: Sequence[str | Path], folder: Path) -> str:
    """What a command prints, which must succeed."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
