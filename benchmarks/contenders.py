"""The servers without an engine that are compared: this server, bare echo loops, and echo servers on the SDKs."""

from __future__ import annotations

import enum
import os
import sys
from pathlib import Path

import msgspec
import pytest

from benchmarks.pipe_server import Cpus, Json, PipeServer
from tests.e2e.environments import PINS, python_environment

ROOT = Path(__file__).resolve().parent.parent
SERVERS = ROOT / "benchmarks" / "servers"
ECHO: tuple[str, Json] = ("echo", {"text": "hello"})


class Kind(enum.StrEnum):
    """The role of a contender in the comparison."""

    OURS = "ours"
    BARE = "bare"
    SDK = "sdk"


class Contender(msgspec.Struct, frozen=True):
    """A server, and the cheapest of its tools."""

    name: str
    kind: Kind
    command: tuple[str, ...]
    tool: str
    arguments: Json

    def start(self, cpus: Cpus | None) -> PipeServer:
        """Runs it on some CPUs."""
        return PipeServer(self.command, cpus, plain_environment())


def plain_environment() -> dict[str, str]:
    """This process's environment without variables that affect Python or this server."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VLLM_", "OMP_"))}


def contenders() -> tuple[list[Contender], list[str]]:
    """The contenders that can run here, and a note for each other."""
    python = sys.executable
    found = [
        Contender("bare interpreter, json", Kind.BARE, (python, str(SERVERS / "bare_json.py")), *ECHO),
        Contender("bare interpreter, msgspec", Kind.BARE, (python, str(SERVERS / "bare_msgspec.py")), *ECHO),
        Contender("vllm_server.py", Kind.OURS, (python, str(ROOT / "vllm_server.py")), "model_info", {}),
    ]
    notes = []
    for environment, made_with, file in (
        ("mcp1", "lowlevel", "mcp_1_lowlevel.py"),
        ("mcp1", "FastMCP", "mcp_1_fastmcp.py"),
        ("mcp2", "MCPServer", "mcp_2.py"),
        ("fastmcp", "FastMCP", "fastmcp_4.py"),
    ):
        name = f"{PINS[environment][0].replace('==', ' ')} {made_with}"
        try:
            sdk_python = str(python_environment(environment))
        except pytest.skip.Exception as skipped:  # its text may name hosts, which must not be in a report
            print(f"{name}: {skipped}", file=sys.stderr)
            notes.append(f"{name} is missing: its environment could not be made.")
        else:
            found.append(Contender(name, Kind.SDK, (sdk_python, str(SERVERS / file)), *ECHO))
    return found, notes
