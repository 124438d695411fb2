"""Which tests scripts/test runs, with a Python that only prints its arguments."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNIT = "-m pytest tests/unit -n 2 --dist worksteal"
E2E = "-m pytest tests/e2e -n 2 --dist loadscope --durations 20"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder with scripts/test, a set-up that does nothing, and a Python that fails for unit tests if told so."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(ROOT / "scripts" / "test", tmp_path / "scripts")
    for name, text in {"scripts/setup": "", ".venv/bin/python": 'echo "$@"\n[[ $* != *"$FAILS"* ]]'}.items():
        program = tmp_path / name
        program.write_text(f"#!/usr/bin/env bash\n{text}\n")
        program.chmod(0o755)
    return tmp_path


def run(clone: Path, *arguments: str, fails: str = "nothing") -> tuple[int, list[str]]:
    """The status of scripts/test, and the runs of pytest that it starts."""
    environment = {"PATH": "/usr/bin:/bin", "FAILS": fails}
    command = [str(clone / "scripts" / "test"), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout.splitlines()


def test_all_tests_run_without_arguments(clone: Path) -> None:
    assert run(clone) == (0, [UNIT, E2E])


@pytest.mark.parametrize("fails", ["tests/unit", "tests/e2e"])
def test_failure_of_either_part_is_one_of_the_whole(clone: Path, fails: str) -> None:
    assert run(clone, fails=fails) == (1, [UNIT, E2E])


def test_fast_tests_are_the_unit_tests_without_the_slow_ones(clone: Path) -> None:
    status, (fast, time) = run(clone, "--fast", "-x")
    assert (status, fast) == (0, "-m pytest tests/unit -m not slow -n 3 --dist worksteal -x")
    assert re.fullmatch(r"fast tests: \d+ s", time)


def test_time_of_the_fast_tests_hides_no_failure(clone: Path) -> None:
    assert run(clone, "--fast", fails="tests/unit")[0] == 1


def test_other_arguments_are_those_of_pytest(clone: Path) -> None:
    assert run(clone, "tests/unit/cli", "-x") == (0, ["-m pytest tests/unit/cli -x"])
