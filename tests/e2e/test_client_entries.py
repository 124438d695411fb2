"""The entries of `--print-config` and `--install` start the server, from the clients that can be had here.

Of VS Code, Cursor, LM Studio, Kiro, Goose, Zed, Windsurf, Claude Desktop and WSL there is no program to run in a test:
their entries are parsed, and started as they say. FluidMCP is in test_clients.py.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import subprocess
import sys
import termios
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.clients.entry import this_server
from cli.clients.table import CLIENTS, Client, Format
from tests.e2e.client_programs import Home, without_color
from tests.e2e.environments import python_environment
from tests.e2e.lines import parsed
from tests.e2e.node_environments import node_environment
from tests.e2e.server_process import ANSWER_S, LOAD_S, ROOT, client_environment
from tests.e2e.test_inspector import LAUNCHER
from tests.scripted_openai import ScriptedOpenAI

Json = dict[str, Any]
SERVER = str(ROOT / "vllm_server.py")
PROGRAMS = Path(__file__).parent / "clients"
PARSERS: Mapping[Format, Callable[[str], Any]] = {
    Format.JSON: json.loads,
    Format.TOML: tomllib.loads,
    Format.YAML: yaml.safe_load,
}
WSL = """#!/bin/sh
# What Windows' wsl.exe does with --exec: no shell, and none of the variables that the caller set.
[ "$1" = --exec ] && shift && exec env -i HOME="$HOME" PATH=/usr/bin:/bin "$@"
"""
INITIALIZE = '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}\n'
CHAT_ONLY = "VLLM_TOOLSETS=chat"
CHAT_TOOLS = {
    "chat_completion",
    "chat_completion_batch",
    "model_info",
    "list_sessions",
    "get_session",
    "delete_session",
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


# What is printed


@pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)
def test_printed_entry_starts_the_server(client: Client, tmp_path: Path) -> None:
    log = tmp_path / "log"
    options = ["--print-config", client.name, "--env", f"VLLM_LOG_FILE={log}"]
    printed = subprocess.run([sys.executable, SERVER, *options], capture_output=True, text=True, timeout=ANSWER_S)
    assert (printed.returncode, printed.stderr) == (0, "")
    entry = PARSERS[client.format](printed.stdout)[client.section]["vllm"]
    assert entry == client.shape(this_server({"VLLM_LOG_FILE": str(log)}))
    wsl = tmp_path / "wsl.exe"
    wsl.write_text(WSL)
    wsl.chmod(0o755)
    finished = subprocess.run(
        words_of(entry),
        input=INITIALIZE,
        env=client_environment({"PATH": f"{tmp_path}:{os.environ['PATH']}", **entry.get(client.env, {})}),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=ANSWER_S,
    )
    assert finished.returncode == 0, finished.stderr
    assert parsed(finished.stdout.encode())["result"]["serverInfo"]["name"] == "vllm-mcp-server"
    assert log.exists()


def words_of(entry: Json) -> list[str]:
    """The command of an entry with its arguments."""
    command: Any = entry.get("command", entry.get("cmd"))
    return command if isinstance(command, list) else [command, *entry["args"]]


def in_python(environment: str, module: str) -> Sequence[str]:
    return [str(python_environment(environment)), "-m", f"tests.e2e.clients.{module}"]


def in_node(environment: str, program: str, folder: Path) -> Sequence[str]:
    return node_environment(environment).program(PROGRAMS / program, folder)


SDKS: Mapping[str, Callable[[Path], Sequence[str]]] = {
    "Python SDK 2": lambda folder: in_python("mcp2", "entry_python2"),
    "fastmcp": lambda folder: in_python("fastmcp", "entry_fastmcp"),
    "TypeScript SDK 1": lambda folder: in_node("typescript1", "entry_typescript1.mjs", folder),
}


@pytest.mark.parametrize("command", SDKS.values(), ids=SDKS)
def test_sdk_takes_the_printed_entry(command: Callable[[Path], Sequence[str]], tmp_path: Path) -> None:
    text = CLIENTS["claude-desktop"].text(this_server({"VLLM_TOOLSETS": "chat"}))
    done = subprocess.run(command(tmp_path), input=text, cwd=ROOT, capture_output=True, text=True, timeout=LOAD_S)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) == CHAT_TOOLS


def test_inspector_takes_the_printed_file(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    file.write_text(CLIENTS["claude-code"].text(this_server({"VLLM_TOOLSETS": "chat"})))
    installed = node_environment("inspector")
    done = subprocess.run(
        [
            *(str(installed.node), str(installed.modules / LAUNCHER), "--cli"),
            *("--config", str(file), "--server", "vllm", "--method", "tools/list", "--format", "json"),
        ],
        env={**os.environ, "MCP_INSPECTOR_SECRET_STORE": "memory"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LOAD_S,
    )
    assert done.returncode == 0, done.stderr
    assert {tool["name"] for tool in json.loads(done.stdout)["result"]["tools"]} == CHAT_TOOLS


# What is installed


def started_by_claude(home: Home) -> None:
    (line,) = [line for line in home.run("claude", "mcp", "list").splitlines() if line.startswith("vllm: ")]
    assert line.endswith("Connected"), line


def started_by_codex(home: Home) -> None:
    """Its editors' server tells what the MCP servers say, without a login."""
    hello = {"clientInfo": {"name": "tests", "title": "Tests", "version": "1"}}
    with subprocess.Popen(
        ["codex", "app-server"],
        cwd=home.folder,
        env=home.variables,
        executable=str(home.folder / "bin" / "codex"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        messages = [
            {"id": 0, "method": "initialize", "params": hello},
            {"method": "initialized"},
            {"id": 1, "method": "mcpServerStatus/list", "params": {}},
        ]
        process.stdin.write("".join(json.dumps(message) + "\n" for message in messages))
        process.stdin.flush()
        answer = next(message for message in map(json.loads, process.stdout) if message.get("id") == 1)
        process.stdin.close()
    (server,) = answer["result"]["data"]
    assert server["serverInfo"]["name"] == "vllm-mcp-server"
    assert set(server["tools"]) == CHAT_TOOLS


def started_by_copilot(home: Home) -> None:
    """It offers the server's tools to its model, which is a scripted one here."""
    with ScriptedOpenAI() as models:
        home.run(
            *("copilot", "-p", "Hello", "--allow-all-tools"),
            COPILOT_PROVIDER_BASE_URL=f"{models.url}/v1",
            COPILOT_MODEL="gpt-4.1",
        )
        offered = {tool["function"]["name"] for tool in models.chats()[0]["tools"]}
    assert {name.removeprefix("vllm-") for name in offered if name.startswith("vllm-")} == CHAT_TOOLS


def started_by_gemini(home: Home) -> None:
    listed = without_color(home.run("sh", "-c", "gemini mcp list 2>&1"))
    assert [line.rpartition(" - ")[2] for line in listed.splitlines() if "vllm: " in line] == ["Connected"], listed


def started_by_opencode(home: Home) -> None:
    listed = without_color(home.run("opencode", "mcp", "list"))
    assert [line.split()[-2:] for line in listed.splitlines() if "✓" in line] == [["vllm", "connected"]], listed


def started_by_cline(home: Home) -> None:
    tools = json.loads(home.run(*in_node("cline", "cline_core.mjs", home.folder)))
    assert set(tools) == CHAT_TOOLS


INSTALLED: Mapping[str, tuple[str | None, Callable[[Home], None]]] = {
    "claude-code": ("claude", started_by_claude),
    "codex": ("codex", started_by_codex),
    "copilot-cli": ("copilot", started_by_copilot),
    "gemini-cli": ("gemini", started_by_gemini),
    "opencode": ("opencode", started_by_opencode),
    "cline": (None, started_by_cline),
}
"""Clients with their command, and the check that they start the server."""


@pytest.mark.parametrize("client", INSTALLED)
def test_client_starts_the_server_that_was_installed(client: str, home: Home) -> None:
    program, check = INSTALLED[client]
    if program is not None:
        home.add(program)
    log = home.folder / "server.log"
    done = home.install(client, "--yes", "--env", "VLLM_TOOLSETS=gpu", "--env", f"VLLM_LOG_FILE={log}")
    assert done.returncode == 0, done.stdout + done.stderr
    done = home.install(client, "--yes", "--env", CHAT_ONLY)  # in place of the first entry
    assert done.returncode == 0, done.stdout + done.stderr
    done = home.install(client, "--env", CHAT_ONLY)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Nothing changes: ")
    check(home)
    assert log.exists(), "the first entry's variable is still there"


def test_codex_takes_the_printed_entry(home: Home) -> None:
    home.add("codex")
    (home.folder / ".codex").mkdir()
    env = {"VLLM_TOOLSETS": "chat"}
    (home.folder / ".codex" / "config.toml").write_text(CLIENTS["codex"].text(this_server(env)))
    (listed,) = json.loads(home.run("codex", "mcp", "list", "--json"))
    assert (listed["startup_timeout_sec"], listed["tool_timeout_sec"]) == (60, 300)
    assert listed["transport"]["env"] == env
    started_by_codex(home)


# Asking


def own_terminal() -> None:
    """Makes stdin the terminal of this process alone, so that Ctrl-C reaches it."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.mark.parametrize(
    ("answer", "status"), [("y\n", 0), ("YES\n", 0), ("\n", 1), ("n\n", 1), ("\x04", 1), ("\x03", 1)]
)
def test_installation_asks_on_a_terminal(answer: str, status: int, home: Home) -> None:
    file = home.folder / ".cursor" / "mcp.json"
    ours, its = pty.openpty()
    with subprocess.Popen(
        [sys.executable, SERVER, "--install", "cursor"],
        cwd=home.folder,
        env=home.variables,
        stdin=its,
        stdout=its,
        stderr=its,
        preexec_fn=own_terminal,
    ) as process:
        shown = ""
        while "Change it? [y/N]" not in shown:
            shown += os.read(ours, 4096).decode()
        assert not file.exists()
        os.write(ours, answer.encode())
        assert process.wait(ANSWER_S) == status
    os.close(its)
    os.close(ours)
    assert file.exists() == (status == 0)
