"""scripts/start.sh and scripts/start-dev.sh with a Python that only tells what it was asked."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TELLER = f"""#!{sys.executable}
import json, os, sys
if sys.argv[1:2] == ["-c"]:
    sys.exit(os.environ.get("NO_WATCHFILES") == "1")
print(json.dumps({{"arguments": sys.argv[1:], "file": os.environ.get("VLLM_ENV_FILE"), "id": os.getpid()}}))
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with the scripts, a package, and a Python that tells; its name has a space."""
    folder = tmp_path / "a clone"
    (folder / "scripts").mkdir(parents=True)
    for name in ("start.sh", "start-dev.sh"):
        shutil.copy(ROOT / "scripts" / name, folder / "scripts" / name)
    (folder / ".venv" / "bin").mkdir(parents=True)
    python = folder / ".venv" / "bin" / "python"
    python.write_text(TELLER)
    python.chmod(0o755)
    for package in ("room/inner", "tests", "no_package"):
        (folder / package).mkdir(parents=True)
    for package in ("room", "tests"):
        (folder / package / "__init__.py").write_text("")
    return folder


def run(clone: Path, script: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a script from another folder."""
    return subprocess.run(
        [clone / "scripts" / script, *options],
        env={"PATH": "/usr/bin:/bin", **environment},
        cwd="/",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def told(done: subprocess.CompletedProcess[str]) -> Any:
    """What the Python told."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_options_are_passed_on(clone: Path) -> None:
    asked = told(run(clone, "start.sh", "--transport", "http", "--host", "a b"))
    assert asked["arguments"] == [str(clone / "vllm_server.py"), "--transport", "http", "--host", "a b"]
    assert asked["file"] is None


def test_signals_reach_the_server_because_it_takes_the_scripts_place(clone: Path) -> None:
    process = subprocess.Popen([clone / "scripts" / "start.sh"], stdout=subprocess.PIPE, text=True)
    said, _ = process.communicate(timeout=60)
    assert json.loads(said)["id"] == process.pid


@pytest.mark.parametrize(
    ("environment", "has_file", "expected"),
    [
        ({}, True, "{clone}/.env"),
        ({}, False, None),
        ({"VLLM_ENV_FILE": "/other"}, True, "/other"),
        ({"VLLM_ENV_FILE": ""}, True, ""),
    ],
)
def test_settings_are_those_of_the_file_beside_unless_said_otherwise(
    clone: Path, environment: dict[str, str], has_file: bool, expected: str | None
) -> None:
    if has_file:
        (clone / ".env").write_text("VLLM_DTYPE=auto")
    found = told(run(clone, "start.sh", **environment))["file"]
    assert found == (expected and expected.format(clone=clone))


def test_without_an_environment_it_says_how_to_make_one(clone: Path) -> None:
    shutil.rmtree(clone / ".venv")
    done = run(clone, "start.sh")
    assert done.returncode == 1
    assert f"Run {clone}/scripts/setup once" in done.stderr


def test_development_is_over_http_and_watches_the_packages(clone: Path) -> None:
    *watching, command, root, room, inner = told(run(clone, "start-dev.sh", "--port", "80 81"))["arguments"]
    assert watching[:2] == ["-m", "watchfiles"]
    assert "--non-recursive" in watching
    assert (root, room, inner) == (str(clone), str(clone / "room"), str(clone / "room" / "inner"))
    started = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert json.loads(started.stdout)["arguments"][1:] == ["--transport", "http", "--port", "80 81"]


@pytest.mark.parametrize("options", [("--transport", "http"), ("--transport=http",)])
def test_development_takes_the_transport_that_it_is_given(clone: Path, options: tuple[str, ...]) -> None:
    arguments = told(run(clone, "start-dev.sh", *options))["arguments"]
    assert sum(argument.count("transport") for argument in arguments) == 1


@pytest.mark.parametrize("options", [("--transport", "stdio"), ("--port", "1", "--transport=stdio")])
def test_development_is_not_for_stdin(clone: Path, options: tuple[str, ...]) -> None:
    done = run(clone, "start-dev.sh", *options)
    assert done.returncode == 2
    assert "would not notice a restart" in done.stderr


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_of_development_is_shown_once_and_starts_nothing(clone: Path, option: str) -> None:
    done = run(clone, "start-dev.sh", "--port", "1", option)
    first, *_, last = done.stdout.splitlines()
    assert first.startswith("usage: scripts/start-dev.sh")
    assert json.loads(last)["arguments"] == [str(clone / "vllm_server.py"), "--help"]


@pytest.mark.parametrize(
    "options", [("--version",), ("--check",), ("--print-config", "cursor"), ("--install", "cursor")]
)
def test_what_only_prints_is_not_watched(clone: Path, options: tuple[str, ...]) -> None:
    assert told(run(clone, "start-dev.sh", *options))["arguments"] == [str(clone / "vllm_server.py"), *options]


def test_help_without_an_environment_tells_what_the_script_is(clone: Path) -> None:
    shutil.rmtree(clone / ".venv")
    done = run(clone, "start.sh", "--help")
    assert "scripts/start.sh [OPTION...]: starts the server" in done.stdout
    assert "scripts/setup once" in done.stderr


def test_development_without_watchfiles_says_what_to_do(clone: Path) -> None:
    done = run(clone, "start-dev.sh", NO_WATCHFILES="1")
    assert done.returncode == 1
    assert "scripts/setup" in done.stderr
