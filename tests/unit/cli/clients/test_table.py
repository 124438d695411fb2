"""Each entry is in the format of its client's file, and says the same to all."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.clients.entry import Entry
from cli.clients.table import CLIENTS, FOLDERS, Client, Format
from tests.documents import PLACEHOLDER, ROOT

COMMAND = 'C:\\a "b"\\caf\u00e9 \U0001f600\n\x7f\u2028'
ENV = {"VLLM_MODEL_NAME": "a: {b}, #c = 'd'", "VLLM_HTTP_TOKENS": "\t\x01\x85\ufeff"}
ENTRY = Entry(COMMAND, ("", "--x=1", COMMAND), ENV)
PARSERS: Mapping[Format, Callable[[str], Any]] = {
    Format.JSON: json.loads,
    Format.TOML: tomllib.loads,
    Format.YAML: yaml.safe_load,
}
EXAMPLES = {
    "claude-desktop": "clients/claude-desktop.json",
    "claude-desktop-windows": "clients/claude-desktop-windows.json",
    "claude-code": "clients/claude-code.json",
    "vscode": "clients/vscode.json",
    "cursor": "clients/cursor.json",
    "fluidmcp": "vllm-config.json",
}
FORMER_NAMES = tuple(EXAMPLES)

clients = pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS)


def parsed(client: Client, entry: Entry) -> dict[str, Any]:
    """The entry as the client reads it."""
    content = PARSERS[client.format](client.text(entry))
    assert list(content) == [client.section]
    assert list(content[client.section]) == ["vllm"]
    read: dict[str, Any] = content[client.section]["vllm"]
    return read


@clients
def test_entry_survives_its_clients_format(client: Client) -> None:
    read = parsed(client, ENTRY)
    command, args, env = read.get("command", read.get("cmd")), read.get("args", []), read.get(client.env, {})
    if client.name == "claude-desktop-windows":
        assert (command, args[:2]) == ("wsl.exe", ["--exec", "env"])
        env = dict(word.split("=", 1) for word in args[2 : 2 + len(ENV)])
        command, *args = args[2 + len(ENV) :]
    if isinstance(command, list):
        command, *args = command
    assert (command, args) == (ENTRY.command, list(ENTRY.args))
    assert {name: value for name, value in env.items() if name in ENV} == ENV
    assert read == client.shape(ENTRY)


@clients
def test_variables_are_asked_for_only_where_there_are_some(client: Client) -> None:
    env = parsed(client, Entry("uvx", ("mcp-server-vllm",))).get(client.env, {})
    assert (env != {}) == (client.name == "fluidmcp")


@clients
def test_printed_text_is_ascii(client: Client) -> None:
    """A terminal of any encoding shows it."""
    assert client.text(ENTRY).isascii()


@clients
def test_every_client_has_a_place_for_its_entry(client: Client) -> None:
    assert client.files or client.place
    for platform in ("linux", "darwin", "win32"):
        if client.files is not None:
            client.files.template(platform).format_map(FOLDERS)


def test_names_from_earlier_versions_are_still_known() -> None:
    assert set(FORMER_NAMES) <= set(CLIENTS)


@pytest.mark.parametrize(("name", "file"), EXAMPLES.items())
def test_example_files_are_entries_of_the_table(name: str, file: str) -> None:
    example = json.loads((ROOT / "examples" / file).read_text())
    entry = Entry("python3", (f"{PLACEHOLDER}/vllm_server.py",))
    assert example == json.loads(CLIENTS[name].text(entry))


def test_variables_move_the_files() -> None:
    assert CLIENTS["codex"].file({"CODEX_HOME": "/c"}) == "/c/config.toml"
    assert CLIENTS["zed"].file({"XDG_CONFIG_HOME": "/x"}) == "/x/zed/settings.json"
    assert CLIENTS["fluidmcp"].file({}) is None


def test_files_are_in_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert CLIENTS["codex"].file({"CODEX_HOME": ""}) == str(tmp_path / ".codex" / "config.toml")
    assert CLIENTS["cursor"].file({}) == str(tmp_path / ".cursor" / "mcp.json")


@clients
def test_own_command_has_the_whole_entry(client: Client) -> None:
    if client.own is None:
        return
    words = client.own.add(ENTRY)
    assert " ".join(words).startswith(f"{client.own.name} ")
    if client.name == "vscode":
        assert json.loads(words[2]) == {"name": "vllm", "command": COMMAND, "args": list(ENTRY.args), "env": ENV}
        return
    assert words[-1 - len(ENTRY.args) :] == (ENTRY.command, *ENTRY.args)
    options = [words[place + 1] for place, word in enumerate(words) if word == "--env"]
    assert options == [f"{name}={value}" for name, value in ENV.items()]
    assert "--" in words or client.name == "gemini-cli"


def test_claude_does_not_take_the_name_for_a_variable() -> None:
    """Its `--env` takes every word up to the next option."""
    own = CLIENTS["claude-code"].own
    assert own is not None
    words = own.add(ENTRY)
    assert words[words.index("vllm") - 2] == "--scope"
