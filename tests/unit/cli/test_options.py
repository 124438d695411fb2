from __future__ import annotations

import json

import pytest

from cli import options as command_line
from settings import read, rows

# The command line


def test_options_stand_for_settings() -> None:
    options = ["--vllm-url", "http://h:1", "--output-dir", "o", "--max-concurrent", "2", "--timeout", "9"]
    overrides = command_line.parse(options).overrides
    assert overrides == {
        "OMNI_URL": "http://h:1",
        "OMNI_OUTPUT_DIR": "o",
        "OMNI_MAX_CONCURRENT": "2",
        "OMNI_TIMEOUT": "9",
    }
    assert read({"OMNI_URL": "http://elsewhere"}, overrides).omni.url == "http://h:1"


def test_no_options_are_no_overrides() -> None:
    assert command_line.parse([]) == command_line.CommandLine()


def test_transport_is_an_override() -> None:
    overrides = command_line.parse(["--transport", "HTTP", "--host", "::1", "--port", "0"]).overrides
    assert overrides == {"VLLM_TRANSPORT": "http", "VLLM_HTTP_HOST": "::1", "VLLM_HTTP_PORT": "0"}


def test_slim_is_a_toolset() -> None:
    overrides = command_line.parse(["--slim"]).overrides
    assert overrides == {"VLLM_TOOLSETS": "slim"}
    assert len(read({"VLLM_TOOLSETS": "all"}, overrides).server.offered_tools) == 4


@pytest.mark.parametrize("level", ["debug", "DEBUG"])
def test_log_level_is_an_override(level: str) -> None:
    assert command_line.parse(["--log-level", level]).overrides == {"VLLM_LOG_LEVEL": "DEBUG"}


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["--version"], 0), (["--help"], 0), (["--nope"], 2), (["x"], 2), (["--transport", "x"], 2)],
)
def test_other_options_print_and_exit(capsys: pytest.CaptureFixture[str], arguments: list[str], status: int) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.parse(arguments)
    assert ended.value.code == status
    written = capsys.readouterr()
    assert bool(written.out) == (status == 0)
    assert bool(written.err) == (status == 2)


@pytest.mark.parametrize(("kind", "status", "said"), [([], 1, "scripts/setup"), (["tpu"], 2, "invalid choice")])
def test_engine_of_a_clone_is_installed_by_its_script(
    capsys: pytest.CaptureFixture[str], kind: list[str], status: int, said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.parse(["--install-engine", *kind])
    assert ended.value.code == status
    assert said in capsys.readouterr().err


def test_help_has_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line.parse(["--help"])
    written = capsys.readouterr().out
    assert all(row.variable in written and row.meaning in written for row in rows())


# Entries for clients


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--print-config", "nobody"], "invalid choice: 'nobody'"),
        (["--install", "nobody"], "invalid choice: 'nobody'"),
        (["--print-config", "cursor", "--install", "cursor"], "not allowed with"),
        (["--env", "A=b"], "need --print-config or --install"),
        (["--yes"], "need --print-config or --install"),
        (["--uvx"], "need --print-config or --install"),
        (["--print-config", "cursor", "--env", "sk-secret"], "it is KEY=VALUE"),
        (["--print-config", "cursor", "--env", "A B=sk-secret"], "it is KEY=VALUE"),
    ],
)
def test_options_of_entries_are_checked(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.parse(arguments)
    assert ended.value.code == 2
    written = capsys.readouterr().err
    assert said in written
    assert "secret" not in written


def test_entry_has_the_variables(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--print-config", "cursor", "--uvx", "--env", "VLLM_DTYP=a=b", "--env", "OTHER="]
    with pytest.raises(SystemExit) as ended:
        command_line.parse(words)
    assert ended.value.code == 0
    written = capsys.readouterr()
    assert json.loads(written.out) == {
        "mcpServers": {
            "vllm": {
                "type": "stdio",
                "command": "uvx",
                "args": ["mcp-server-vllm"],
                "env": {"VLLM_DTYP": "a=b", "OTHER": ""},
            }
        }
    }
    assert written.err == "The variable VLLM_DTYP is not a setting of this server. Did you mean VLLM_DTYPE?\n"


def test_entry_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(SystemExit, match="not valid Unicode"):
        command_line.parse(["--print-config", "cursor", "--env", "A=\udcff"])


# The commands for a terminal


@pytest.mark.parametrize(
    ("arguments", "overrides", "command"),
    [
        (["tools"], {"VLLM_LOG_LEVEL": "WARNING"}, ["tools"]),
        (["call", "x", "--json", "--host", "a"], {"VLLM_LOG_LEVEL": "WARNING"}, ["call", "x", "--json", "--host", "a"]),
        (["--log-level", "info", "chat", "--help"], {"VLLM_LOG_LEVEL": "INFO"}, ["chat", "--help"]),
        (
            ["--vllm-url", "http://h:1", "call", "--vllm-url"],
            {"VLLM_LOG_LEVEL": "WARNING", "OMNI_URL": "http://h:1"},
            ["call", "--vllm-url"],
        ),
    ],
)
def test_words_behind_a_command_belong_to_it(
    arguments: list[str], overrides: dict[str, str], command: list[str]
) -> None:
    parsed = command_line.parse(arguments)
    assert parsed.overrides == {"VLLM_TRANSPORT": "stdio", **overrides}
    assert list(parsed.command) == command


def test_log_level_of_the_environment_holds_for_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_LOG_LEVEL", "DEBUG")
    assert command_line.parse(["tools"]).overrides == {"VLLM_TRANSPORT": "stdio"}
    monkeypatch.setenv("VLLM_LOG_LEVEL", " ")
    assert command_line.parse(["tools"]).overrides["VLLM_LOG_LEVEL"] == "WARNING"


def test_unknown_command_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line.parse(["cal", "x"])
    assert "unknown command 'cal'; there are call, tools, chat" in capsys.readouterr().err
