"""The command line of MCP Inspector with the real server: each command starts a server of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.images import asked, drawn, forms
from tests.e2e.node_environments import node_environment
from tests.e2e.server_process import LOAD_S, ROOT

Json = dict[str, Any]
LAUNCHER = Path("@modelcontextprotocol", "inspector", "clients", "launcher", "build", "index.js")
ERAS = {"legacy": "2025-11-25", "auto": "2026-07-28", "modern": "2026-07-28"}
TOOL_FAILED = 5
"""The exit status for a tool's error and for a tool that is not there."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit status, the result it printed, and what stood on stderr."""

    status: int
    result: Json
    errors: str


Inspector = Callable[..., Outcome]


@pytest.fixture(scope="module")
def inspector() -> Inspector:
    """Runs one command: a method, the era, more options, and the server's environment variables."""
    installed = node_environment("inspector")

    def run(method: str, era: str, *options: str, env: Mapping[str, str] | None = None) -> Outcome:
        variables = [option for name, value in (env or {}).items() for option in ("-e", f"{name}={value}")]
        server = [sys.executable, str(ROOT / "vllm_server.py")]
        said = ["--method", method, "--protocol-era", era, "--format", "json", *options, *variables]
        ended = subprocess.run(
            [str(installed.node), str(installed.modules / LAUNCHER), "--cli", *server, *said],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**os.environ, "MCP_INSPECTOR_SECRET_STORE": "memory"},  # else it asks for the desktop's key ring
            timeout=LOAD_S,
        )
        printed = json.loads(ended.stdout) if ended.stdout else {}
        assert "schemaFindings" not in printed, printed["schemaFindings"]
        return Outcome(ended.returncode, printed.get("result", {}), ended.stderr)

    return run


@pytest.mark.parametrize(("era", "version"), ERAS.items())
def test_each_era_settles_on_its_newest_revision(inspector: Inspector, era: str, version: str) -> None:
    connected = inspector("initialize", era)
    assert connected.status == 0, connected.errors
    assert connected.result["protocolVersion"] == version
    assert connected.result["serverInfo"]["name"] == "vllm-mcp-server"


@pytest.mark.parametrize("era", ERAS)
def test_all_schemas_pass_the_strict_check(inspector: Inspector, era: str) -> None:
    listed = inspector("tools/list", era, "--strict")
    assert listed.status == 0, listed.errors
    assert listed.result["tools"][0]["name"] == "chat_completion"


def test_describes_an_image_by_path(inspector: Inspector, model: dict[str, str], tmp_path: Path) -> None:
    part = forms(drawn("blue", "circle", "red"), tmp_path)["path"]
    arguments = {"messages": asked("What is in this image?", part), "temperature": 0}
    called = call(inspector, "auto", "chat_completion", arguments, env=model)
    assert called.status == 0, called.errors
    assert "red" in called.result["content"][0]["text"].lower()


@pytest.mark.parametrize("era", ERAS)
def test_refused_argument_is_a_tools_error(inspector: Inspector, era: str) -> None:
    called = call(inspector, era, "chat_completion", {"messages": asked("Hello"), "top_p": 7})
    assert called.status == TOOL_FAILED
    assert called.result["isError"] is True
    assert "top_p" in called.result["content"][0]["text"]


@pytest.mark.parametrize("era", ERAS)
def test_unknown_tool_is_an_error(inspector: Inspector, era: str) -> None:
    called = call(inspector, era, "no_such_tool", {})
    assert called.status == TOOL_FAILED
    assert "tool_not_found" in called.errors


@pytest.mark.parametrize("kind", ["resources", "prompts"])
def test_lists_what_the_server_declares(inspector: Inspector, kind: str) -> None:
    declared = inspector("initialize", "modern").result["capabilities"]
    listed = inspector(f"{kind}/list", "modern")
    assert listed.status == 0, listed.errors
    assert bool(listed.result[kind]) == (kind in declared)


def call(
    inspector: Inspector, era: str, tool: str, arguments: Json, *, env: Mapping[str, str] | None = None
) -> Outcome:
    """Calls a tool."""
    return inspector("tools/call", era, "--tool-name", tool, "--tool-args-json", json.dumps(arguments), env=env)
