"""The plugin in Claude Code: its own validator, and an installed plugin that starts the server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from release.names import PLUGIN
from settings import COMMAND, SERVER_VERSION
from tests.e2e.node_environments import node_environment
from tests.e2e.package import build
from tests.e2e.server_process import ROOT

TIMEOUT_S = 120
QUIET = {"DISABLE_TELEMETRY": "1", "DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
Claude = Callable[..., str]


@pytest.fixture
def claude(tmp_path: Path) -> Claude:
    """Runs Claude Code for a user without any files, and returns what it prints.

    Its `uvx` is that of the project, with the wheels in `tmp_path / "dist"`.
    """
    installed = node_environment("claude-code")
    (program,) = installed.modules.glob("@anthropic-ai/claude-code-*/claude")
    programs = tmp_path / "bin"
    programs.mkdir()
    uvx = programs / "uvx"
    uvx.write_text(f'#!/bin/sh\nexec "{ROOT}/scripts/uv" tool run --find-links "{tmp_path}/dist" "$@"\n')
    uvx.chmod(0o755)

    def run(*arguments: str | Path) -> str:
        command: list[str | Path] = [program, *arguments]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={"HOME": str(tmp_path), "PATH": f"{programs}:/usr/bin:/bin", **QUIET},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


@pytest.mark.parametrize("folder", [ROOT, ROOT / "plugin"], ids=["marketplace", "plugin"])
def test_claude_code_accepts_it_without_a_warning(claude: Claude, folder: Path) -> None:
    report: dict[str, Any] = json.loads(claude("plugin", "validate", "--strict", "--json", folder))
    assert report["success"], report


def test_plugin_directory_accepts_it(claude: Claude) -> None:
    claude("plugin", "validate", "--strict", "--profile", "directory", ROOT / "plugin")


def test_installed_plugin_starts_the_server(claude: Claude, tmp_path: Path) -> None:
    build(ROOT, "wheel", tmp_path / "dist")
    claude("plugin", "marketplace", "add", ROOT)
    claude("plugin", "install", f"{PLUGIN}@{PLUGIN}")
    (server,) = [line for line in claude("mcp", "list").splitlines() if line.startswith("plugin:")]
    assert server == f"plugin:{PLUGIN}:{PLUGIN}: uvx {COMMAND}@{SERVER_VERSION} - ✔ Connected"
