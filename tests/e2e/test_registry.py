"""The entry of the MCP registry, the plugin and its skills, checked by their schemas."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from release import metadata
from tests.e2e.environments import python_environment
from tests.e2e.server_process import ROOT

TIMEOUT_S = 120


def linted(folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs the linter on all that it finds in a folder; a warning is an error."""
    program = python_environment("skillsaw").parent / "skillsaw"
    command: list[str | Path] = [program, "lint", "--strict", "--no-color", folder]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with nothing but what is checked."""
    for name in ("plugin", ".claude-plugin"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "server.json", tmp_path)
    return tmp_path


def test_entry_plugin_and_skills_are_valid(folder: Path) -> None:
    done = linted(folder)
    assert done.returncode == 0, done.stdout
    assert "Repo type: agentskills, marketplace, mcp-registry" in done.stdout
    assert "Skills:    2" in done.stdout


def test_entry_of_a_release_is_valid(folder: Path) -> None:
    bundle = folder / "a.mcpb"
    bundle.write_bytes(b"a bundle")
    (folder / "server.json").write_text(json.dumps(metadata.registry_entry(bundle)), encoding="utf-8")
    done = linted(folder)
    assert done.returncode == 0, done.stdout


def test_invalid_entry_would_be_found(folder: Path) -> None:
    entry = metadata.registry_entry()
    (folder / "server.json").write_text(json.dumps({**entry, "description": "x" * 101}), encoding="utf-8")
    done = linted(folder)
    assert done.returncode == 1
    assert "at most 100 character(s)" in done.stdout
