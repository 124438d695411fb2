"""Command lines of clients, from npm, each run for a user whose home folder is empty at first."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.environments import ENVIRONMENTS
from tests.e2e.node_environments import node_environment
from tests.e2e.server_process import LOAD_S, ROOT


@dataclass(frozen=True)
class Program:
    """A command of a client: its environment, its file below `node_modules`, and variables that it needs here."""

    environment: str
    file: str
    variables: Mapping[str, str] = field(default_factory=dict)


PROGRAMS = {
    "claude": Program(
        "claude-code", "@anthropic-ai/claude-code-*/claude", {"CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
    ),
    "codex": Program("codex", "@openai/codex/bin/codex.js"),
    "copilot": Program(
        "copilot-cli",
        "@github/copilot/npm-loader.js",
        # It unpacks 235 MB into its cache.
        {"COPILOT_OFFLINE": "true", "XDG_CACHE_HOME": str(ENVIRONMENTS / "copilot-cli" / "cache")},
    ),
    "gemini": Program("gemini-cli", "@google/gemini-cli/bundle/gemini.js", {"GEMINI_CLI_TRUST_WORKSPACE": "true"}),
    "opencode": Program("opencode", "opencode-*/bin/opencode"),
}


class Home:
    """The home folder of a user, with the commands of some clients on the path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._bin = folder / "bin"
        self._bin.mkdir()
        self.variables = {"HOME": str(folder), "PATH": f"{self._bin}:/usr/bin:/bin", "TERM": "dumb"}

    def add(self, name: str) -> None:
        """Puts a client's command on the path."""
        program = PROGRAMS[name]
        installed = node_environment(program.environment)
        file = max(installed.modules.glob(program.file))  # of several builds, the last one needs the least of the CPU
        interpreter = f'"{installed.node}" ' if file.suffix == ".js" else ""
        command = self._bin / name
        command.write_text(f'#!/bin/sh\nexec {interpreter}"{file}" "$@"\n')
        command.chmod(0o755)
        self.variables |= program.variables

    def run(self, *command: str, stdin: str = "", **variables: str) -> str:
        """What a command writes to stdout; it must succeed."""
        done = self._run(command, stdin, variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def install(self, client: str, *options: str) -> subprocess.CompletedProcess[str]:
        """`--install` of the real server."""
        return self._run([sys.executable, str(ROOT / "vllm_server.py"), "--install", client, *options], "", {})

    def _run(
        self, command: Sequence[str], stdin: str, variables: Mapping[str, str]
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            input=stdin,
            cwd=self.folder,
            env={**self.variables, **variables},
            capture_output=True,
            text=True,
            timeout=LOAD_S,
        )


def without_color(text: str) -> str:
    """The text without the escape sequences of a terminal."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
