"""`--install`: what it changes, what it shows, and when it changes nothing."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.clients.entry import Entry
from cli.clients.install import install
from cli.clients.table import CLIENTS

ENTRY = Entry("/opt/server", ("--slim",))
SECRET = 's3cr3t"x'
FAKE = f"""#!{sys.executable}
import json, os, sys
with open(os.environ["HOME"] + "/calls.jsonl", "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
exec(os.environ.get("BEHAVIOUR", ""))
"""
"""The command of a client, which notes how it was called, and may do more."""

Install = Callable[..., int]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def run(home: Path) -> Install:
    """Installs the entry for a client as the user of an empty home folder."""

    def run(client: str, entry: Entry = ENTRY, yes: bool = True) -> int:
        return install(CLIENTS[client], entry, {"PATH": str(home / "bin")}, assume_yes=yes)

    return run


def program(home: Path, name: str) -> Path:
    """Puts the command of a client on the path."""
    path = home / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(FAKE)
    path.chmod(0o755)
    return path


def calls(home: Path) -> list[list[str]]:
    """How that command was called."""
    file = home / "calls.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def content(home: Path, path: str = ".cursor/mcp.json") -> Any:
    return json.loads((home / path).read_text())


def write(home: Path, value: object, path: str = ".cursor/mcp.json") -> Path:
    file = home / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(value if isinstance(value, str) else json.dumps(value, indent=2))
    return file


def files(home: Path) -> dict[str, bytes]:
    """Everything in the home folder."""
    return {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}


# Files


def test_new_file_has_the_entry(run: Install, home: Path) -> None:
    assert run("cursor") == 0
    assert content(home) == {"mcpServers": {"vllm": {"type": "stdio", "command": "/opt/server", "args": ["--slim"]}}}


def test_other_servers_stay(run: Install, home: Path) -> None:
    before = {"mcpServers": {"other": {"command": "x"}}, "more": [1]}
    write(home, before)
    assert run("cursor") == 0
    after = content(home)
    assert list(after["mcpServers"]) == ["other", "vllm"]
    after["mcpServers"].pop("vllm")
    assert after == before


@pytest.mark.parametrize(
    "client", ["cursor", "zed", "cline", "opencode", "copilot-cli", "claude-desktop", "claude-code"]
)
def test_second_time_changes_nothing(run: Install, home: Path, capsys: pytest.CaptureFixture[str], client: str) -> None:
    entry = Entry("c", (), {"A": "b"})
    assert run(client, entry) == 0
    before = files(home)
    capsys.readouterr()
    assert run(client, entry, yes=False) == 0
    assert files(home) == before
    assert capsys.readouterr().out.startswith("Nothing changes: ")


def test_former_entry_keeps_what_the_user_added(run: Install, home: Path) -> None:
    entry = {"command": "old", "args": [], "env": {"A": "1", "B": "2"}, "autoApprove": ["model_info"]}
    write(home, {"mcpServers": {"vllm": entry}})
    assert run("kiro", Entry("new", (), {"B": "3"})) == 0, "a file of another client does not matter"
    assert run("cursor", Entry("new", (), {"B": "3"})) == 0
    assert content(home)["mcpServers"]["vllm"] == {
        "command": "new",
        "args": [],
        "env": {"A": "1", "B": "3"},
        "autoApprove": ["model_info"],
        "type": "stdio",
    }


@pytest.mark.parametrize("former", [{"url": "http://127.0.0.1:8080/mcp", "headers": {}}, None, "text"])
def test_former_entry_that_starts_no_program_is_replaced(run: Install, home: Path, former: object) -> None:
    write(home, {"mcpServers": {"vllm": former}})
    assert run("windsurf") == 0
    assert run("cursor") == 0
    assert content(home)["mcpServers"]["vllm"] == {"type": "stdio", "command": "/opt/server", "args": ["--slim"]}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"mcpServers": {', "is not valid JSON"),
        ("[]", "it holds no object"),
        ('{"mcpServers": []}', '"mcpServers" is not an object'),
    ],
)
def test_file_that_cannot_be_used_stays(
    run: Install, home: Path, capsys: pytest.CaptureFixture[str], text: str, reason: str
) -> None:
    file = write(home, text)
    assert run("cursor") == 1
    assert file.read_text() == text
    said = capsys.readouterr().err
    assert reason in said
    assert said.endswith("Nothing was changed.\n")


@pytest.mark.parametrize(
    ("client", "path", "text"),
    [
        ("zed", ".config/zed/settings.json", '// settings\n{"a": 1}'),
        ("goose", ".config/goose/config.yaml", "extensions: {}\n"),
        ("codex", ".codex/config.toml", "[mcp_servers.other]\n"),
    ],
)
def test_entry_for_other_formats_is_printed(
    run: Install, home: Path, capsys: pytest.CaptureFixture[str], client: str, path: str, text: str
) -> None:
    file = write(home, text, path)
    assert run(client) == 1
    assert files(home) == {path: text.encode()}
    printed = capsys.readouterr()
    assert printed.out == CLIENTS[client].text(ENTRY) + "\n"
    assert str(file) in printed.err


def test_entry_for_a_client_without_a_file_is_printed(
    run: Install, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("claude-desktop-windows") == 1
    printed = capsys.readouterr()
    assert printed.out == CLIENTS["claude-desktop-windows"].text(ENTRY) + "\n"
    assert "claude_desktop_config.json" in printed.err
    assert files(home) == {}


# Asking and showing


def test_without_a_terminal_nothing_changes(
    run: Install, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115
    assert run("cursor", yes=False) == 1
    sys.stdin.close()
    assert files(home) == {}
    printed = capsys.readouterr()
    assert '+  "command": "/opt/server",' in printed.out
    assert "--yes" in printed.err


def test_difference_has_no_secrets_and_no_other_servers(
    run: Install, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    former = {"command": "old", "args": [], "env": {"OPENAI_API_KEY": "pr3vious"}}
    write(home, {"mcpServers": {"other": {"command": "x", "env": {"PIN": "1234"}}, "vllm": former}})
    entry = Entry("new", (), {"OPENAI_API_KEY": SECRET, "VLLM_DTYPE": "auto"})
    assert run("cursor", entry) == 0
    printed = "".join(capsys.readouterr())
    assert '-  "command": "old",' in printed
    assert '+  "command": "new",' in printed
    assert '"VLLM_DTYPE": "auto"' in printed
    assert [word for word in ("pr3vious", "s3cr3t", "1234", "other") if word in printed] == []
    assert content(home)["mcpServers"]["vllm"]["env"]["OPENAI_API_KEY"] == SECRET


# The client's own command

ADD_TO_CLAUDE = """
path = os.environ["HOME"] + "/.claude.json"
at = sys.argv.index("--")
if sys.argv[2] == "add":
    env = dict(sys.argv[i + 1].split("=", 1) for i, word in enumerate(sys.argv) if word == "--env")
    entry = {"type": "stdio", "command": sys.argv[at + 1], "args": sys.argv[at + 2:], "env": env}
    json.dump({"mcpServers": {sys.argv[at - 1]: entry}}, open(path, "w"))
"""


@pytest.fixture
def claude(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `claude` that adds entries."""
    monkeypatch.setenv("BEHAVIOUR", ADD_TO_CLAUDE.replace("at = ", 'at = -1 if "--" not in sys.argv else '))
    return program(home, "claude")


def test_own_command_adds_the_entry(run: Install, home: Path, claude: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entry = Entry("c", ("a b",), {"OPENAI_API_KEY": SECRET, "B": "2"})
    assert run("claude-code", entry) == 0
    variables = ["--env", f"OPENAI_API_KEY={SECRET}", "--env", "B=2"]
    assert calls(home) == [["mcp", "add", *variables, "--scope", "user", "vllm", "--", "c", "a b"]]
    assert list((home / "bin").iterdir()) == [claude], "no copy: the client keeps its file itself"
    printed = "".join(capsys.readouterr())
    assert "command: claude mcp add --env " in printed
    assert "s3cr3t" not in printed
    assert "Claude Code has the entry" in printed
    assert run("claude-code", entry, yes=False) == 0, "nothing is left to do"
    assert len(calls(home)) == 1


def test_own_command_replaces_an_entry(run: Install, home: Path, claude: Path) -> None:
    write(
        home,
        {"mcpServers": {"vllm": {"type": "stdio", "command": "old", "args": [], "env": {"A": "1"}}}},
        ".claude.json",
    )
    assert run("claude-code") == 0
    remove, add = calls(home)
    assert remove == ["mcp", "remove", "--scope", "user", "vllm"]
    assert add == ["mcp", "add", "--env", "A=1", "--scope", "user", "vllm", "--", "/opt/server", "--slim"]


@pytest.mark.parametrize(
    ("client", "command"), [("codex", "codex mcp add"), ("vscode", "code --add-mcp"), ("claude-code", "claude mcp add")]
)
def test_own_command_that_fails_is_reported(
    run: Install,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    client: str,
    command: str,
) -> None:
    program(home, command.split()[0])
    monkeypatch.setenv("BEHAVIOUR", "sys.exit(3)")
    assert run(client) == 1
    assert capsys.readouterr().err == f"`{command}` failed (3). Nothing was changed.\n"


def test_removal_that_fails_is_reported(
    run: Install, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program(home, "claude")
    write(home, {"mcpServers": {"vllm": {"command": "old"}}}, ".claude.json")
    monkeypatch.setenv("BEHAVIOUR", "sys.exit(2)")
    assert run("claude-code") == 1
    assert capsys.readouterr().err == "`claude mcp remove` failed (2). Nothing was changed.\n"


def test_own_command_that_fails_after_the_removal_is_reported(
    run: Install, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program(home, "copilot")
    write(home, {"mcpServers": {"vllm": {"command": "old"}}}, ".copilot/mcp-config.json")
    monkeypatch.setenv("BEHAVIOUR", "sys.exit(sys.argv[2] == 'add')")
    assert run("copilot-cli") == 1
    assert capsys.readouterr().err == "`copilot mcp add` failed (1). Copilot CLI has no entry now.\n"


def test_own_command_that_adds_nothing_is_no_success(
    run: Install, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program(home, "code")
    assert run("vscode") == 1
    assert "does not have the entry" in capsys.readouterr().err
    ((option, entry),) = calls(home)
    assert option == "--add-mcp"
    assert json.loads(entry) == {"name": "vllm", "command": "/opt/server", "args": ["--slim"]}


def test_program_that_cannot_be_run_is_reported(run: Install, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program(home, "gemini").write_text("#!/nowhere\n")
    assert run("gemini-cli") == 1
    assert capsys.readouterr().err == "`gemini mcp add` failed (No such file or directory). Nothing was changed.\n"


def test_codex_is_told_of_its_short_limits(
    run: Install, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program(home, "codex")
    toml = '[mcp_servers.vllm]\\ncommand = "/opt/server"\\nargs = ["--slim"]\\n'
    path = home / ".codex"
    path.mkdir()
    monkeypatch.setenv("BEHAVIOUR", f"open({str(path / 'config.toml')!r}, 'w').write('{toml}')")
    assert run("codex") == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "startup_timeout_sec" in line]
    added = line.partition("that: ")[2].replace(", ", "\n")
    assert tomllib.loads(added) == {"startup_timeout_sec": 60, "tool_timeout_sec": 300}


def test_batch_file_is_not_given_the_entry(run: Install, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`cmd.exe` would read quotation marks and percent signs of the arguments in its own way."""
    batch = program(home, "claude").rename(home / "bin" / "claude.CMD")
    monkeypatch.setattr("shutil.which", lambda name, path: str(batch))
    assert run("claude-code") == 0
    assert calls(home) == []
    assert content(home, ".claude.json")["mcpServers"]["vllm"]["command"] == "/opt/server"
