"""The workflows, which run only on GitHub: what they name exists, and each job has no more rights than it needs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from settings import COMMAND
from tests.e2e.environments import PINS

Json = dict[str, Any]
ROOT = Path(__file__).parents[2]
WORKFLOWS: dict[str, Json] = {
    path.name: yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)  # else `on` would be a truth value
    for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))
}
ACTIONS = {
    "actions/checkout": "v5",
    "actions/setup-python": "v6",
    "actions/upload-artifact": "v5",
    "actions/download-artifact": "v5",
    "pypa/gh-action-pypi-publish": "release/v1",
}
"""Those of GitHub itself, and the one that package indexes name for trusted publishing."""
MORE_RIGHTS = {
    "package": {"id-token": "write"},
    "bundle": {"contents": "write"},
    "registry": {"contents": "read", "id-token": "write"},
}
"""The jobs that may do more than read the repository."""
OF_GITHUB = {"curl", "gh", "mkdir", "./mcp-publisher"}
"""Programs that every runner for Linux has, or that a step has fetched."""
OF_PIP = {"hatchling", "twine", "pip"}


def jobs() -> Iterator[tuple[str, Json]]:
    """Every job with its name."""
    for workflow in WORKFLOWS.values():
        yield from workflow["jobs"].items()


def steps() -> Iterator[Json]:
    """Every step of every job."""
    for _, job in jobs():
        yield from job.get("steps", [])


def commands() -> list[str]:
    """Every command that a step runs."""
    return [step["run"] for step in steps() if "run" in step]


def test_there_is_one_workflow_for_tests_and_one_for_releases() -> None:
    assert list(WORKFLOWS) == ["publish.yml", "test.yml"]
    assert WORKFLOWS["publish.yml"]["on"] == {"push": {"tags": ["v*"]}}
    assert set(WORKFLOWS["test.yml"]["on"]) == {"push", "pull_request", "workflow_call"}


@pytest.mark.parametrize("command", commands())
def test_what_a_command_names_exists(command: str) -> None:
    for part in command.split(" | "):
        program, *words = shlex.split(part)
        if program == "python":
            assert words[0] == "-m"
            assert_module_takes(words[1], words[2:])
        elif "/" in program and program not in OF_GITHUB:
            assert os.access(ROOT / program, os.X_OK), program
        else:
            assert program in OF_GITHUB | {"tar"}, program


def assert_module_takes(module: str, words: list[str]) -> None:
    """Fails if a module of this repository does not exist or has not the options."""
    if module in OF_PIP:
        return
    assert (ROOT / (module.replace(".", "/") + ".py")).is_file(), module
    options = [word for word in words if word.startswith("--")]
    if options:
        done = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True)
        assert [option for option in options if option not in done.stdout] == [], done.stderr


def test_package_is_built_with_what_the_tests_use() -> None:
    (installed,) = [command for command in commands() if "hatchling==" in command]
    assert tuple(installed.removeprefix("python -m pip install ").split()) == PINS["package"]


def test_tour_runs_the_installed_command_on_three_systems() -> None:
    tour = WORKFLOWS["test.yml"]["jobs"]["tour"]
    assert tour["strategy"]["matrix"]["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    runs = [step["run"] for step in tour["steps"] if "run" in step]
    assert runs == ["python -m pip install dist/*.whl", f"python -m tests.e2e.tour {COMMAND}"]
    assert tour["defaults"]["run"]["shell"] == "bash"


def test_actions_are_known_and_pinned() -> None:
    used = {step["uses"] for step in steps() if "uses" in step}
    assert used == {f"{name}@{version}" for name, version in ACTIONS.items()}


def test_workflow_that_a_job_calls_can_be_called() -> None:
    for _, job in jobs():
        if "uses" in job:
            called = ROOT / job["uses"]
            assert called.is_file()
            assert "workflow_call" in WORKFLOWS[called.name]["on"]


def test_order_of_the_jobs_is_possible() -> None:
    for workflow in WORKFLOWS.values():
        done: set[str] = set()
        for name, job in workflow["jobs"].items():
            assert {job["needs"]} <= done if "needs" in job else True, name
            done.add(name)


def test_fetched_artifacts_are_uploaded_before() -> None:
    used = {"upload": set[str](), "download": set[str]()}
    for step in steps():
        if match := re.match(r"actions/(upload|download)-artifact@", step.get("uses", "")):
            used[match[1]].add(step["with"]["name"])
    assert used["upload"] == used["download"]


@pytest.mark.parametrize("workflow", WORKFLOWS.values(), ids=WORKFLOWS)
def test_rights_are_the_fewest(workflow: Json) -> None:
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job.get("permissions") == MORE_RIGHTS.get(name), name
    for step in steps():
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] == "false"


def test_every_job_has_a_limit_of_time() -> None:
    assert [name for name, job in jobs() if "timeout-minutes" not in job and "uses" not in job] == []


def test_values_from_outside_reach_no_shell() -> None:
    """An expression in a command would be filled in before the shell reads it."""
    assert [command for command in commands() if "${{" in command] == []
