"""The table of MCP clients: where each keeps its servers, in which form, and its own command to add one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from enum import Enum

import msgspec

from cli.clients import shapes
from cli.clients.entry import NAME, Entry
from cli.clients.shapes import Json, Shape


class Format(Enum):
    """The format of a client's file."""

    JSON = "JSON"
    TOML = "TOML"
    YAML = "YAML"


TEXTS: Mapping[Format, Callable[[str, Json], str]] = {
    Format.JSON: shapes.json_text,
    Format.TOML: shapes.toml_text,
    Format.YAML: shapes.yaml_text,
}

FOLDERS = {
    "HOME": "~",
    "APPDATA": "~/AppData/Roaming",
    "XDG_CONFIG_HOME": "~/.config",
    "CLAUDE_CONFIG_DIR": "~",
    "CODEX_HOME": "~/.codex",
    "COPILOT_HOME": "~/.copilot",
    "GEMINI_CLI_HOME": "~",
}
"""Variables that name a folder of a client, each with the folder where it is not set."""


class Files(msgspec.Struct, frozen=True):
    """The path of a client's file on each platform, with the variables of FOLDERS in braces."""

    linux: str
    macos: str = ""
    windows: str = ""

    def template(self, platform: str = sys.platform) -> str:
        """The path on a platform, by the names of `sys.platform`."""
        return {"darwin": self.macos, "win32": self.windows}.get(platform, "") or self.linux


class OwnCommand(msgspec.Struct, frozen=True):
    """A client's own command to add a server for this user.

    Arguments:
        name: the program and what else the command begins with.
        add: the words of the command that adds an entry.
        remove: the words of the command to run first where there is an entry; empty for a command that replaces it.
        missing: what that command cannot set and the user may want to.
    """

    name: str
    add: Callable[[Entry], tuple[str, ...]]
    remove: tuple[str, ...] = ()
    missing: str = ""


class Client(msgspec.Struct, frozen=True):
    """A client.

    Arguments:
        name: its name for `--print-config` and `--install`.
        title: its name in sentences.
        section: the member of its file that holds the servers.
        files: its file for this user; None where it is not on this machine or may be anywhere.
        place: where the entry goes, for clients without `files`, or a second place of those with `files`.
        env: the member of an entry that holds the variables; "" for a form that has none.
    """

    name: str
    title: str
    section: str = "mcpServers"
    shape: Shape = shapes.plain
    format: Format = Format.JSON
    files: Files | None = None
    place: str = ""
    own: OwnCommand | None = None
    env: str = "env"

    def text(self, entry: Entry) -> str:
        """The entry as a file, or the part of a file, of this client."""
        return TEXTS[self.format](self.section, self.shape(entry))

    def file(self, environment: Mapping[str, str]) -> str | None:
        """The path of the client's file, for the user of this environment."""
        if self.files is None:
            return None
        folders = {name: environment.get(name) or os.path.expanduser(default) for name, default in FOLDERS.items()}
        return os.path.normpath(self.files.template().format_map({**folders, "HOME": os.path.expanduser("~")}))


def _options(entry: Entry, option: str) -> tuple[str, ...]:
    return tuple(word for name, value in entry.env.items() for word in (option, f"{name}={value}"))


def _claude(entry: Entry) -> tuple[str, ...]:
    """`--env` takes all words up to the next option, so the name does not follow it."""
    return (
        "claude",
        "mcp",
        "add",
        *_options(entry, "--env"),
        "--scope",
        "user",
        NAME,
        "--",
        entry.command,
        *entry.args,
    )


def _codex(entry: Entry) -> tuple[str, ...]:
    return ("codex", "mcp", "add", NAME, *_options(entry, "--env"), "--", entry.command, *entry.args)


def _gemini(entry: Entry) -> tuple[str, ...]:
    return ("gemini", "mcp", "add", "--scope", "user", *_options(entry, "--env"), NAME, entry.command, *entry.args)


def _copilot(entry: Entry) -> tuple[str, ...]:
    return ("copilot", "mcp", "add", NAME, *_options(entry, "--env"), "--", entry.command, *entry.args)


def _vscode(entry: Entry) -> tuple[str, ...]:
    return ("code", "--add-mcp", msgspec.json.encode({"name": NAME, **shapes.plain(entry)}).decode())


CLAUDE_DESKTOP_FILE = "Settings > Developer > Edit Config (claude_desktop_config.json)"
CLIENTS: Mapping[str, Client] = {
    client.name: client
    for client in (
        Client(
            "claude-desktop",
            "Claude Desktop",
            files=Files(
                "{XDG_CONFIG_HOME}/Claude/claude_desktop_config.json",
                macos="{HOME}/Library/Application Support/Claude/claude_desktop_config.json",
                windows="{APPDATA}/Claude/claude_desktop_config.json",
            ),
            place=CLAUDE_DESKTOP_FILE,
        ),
        Client(
            "claude-desktop-windows",
            "Claude Desktop on Windows, with the server in WSL",
            shape=shapes.through_wsl,
            place=CLAUDE_DESKTOP_FILE,
            env="",
        ),
        Client(
            "claude-code",
            "Claude Code",
            shape=shapes.typed,
            files=Files("{CLAUDE_CONFIG_DIR}/.claude.json"),
            place=".mcp.json in a project",
            own=OwnCommand("claude mcp add", _claude, remove=("claude", "mcp", "remove", "--scope", "user", NAME)),
        ),
        Client(
            "vscode",
            "VS Code",
            section="servers",
            shape=shapes.typed,
            files=Files(
                "{XDG_CONFIG_HOME}/Code/User/mcp.json",
                macos="{HOME}/Library/Application Support/Code/User/mcp.json",
                windows="{APPDATA}/Code/User/mcp.json",
            ),
            place=".vscode/mcp.json in a project",
            own=OwnCommand("code --add-mcp", _vscode),
        ),
        Client(
            "cursor",
            "Cursor",
            shape=shapes.typed,
            files=Files("{HOME}/.cursor/mcp.json"),
            place=".cursor/mcp.json in a project",
        ),
        Client("lm-studio", "LM Studio", files=Files("{HOME}/.lmstudio/mcp.json")),
        Client(
            "kiro",
            "Kiro",
            files=Files("{HOME}/.kiro/settings/mcp.json"),
            place=".kiro/settings/mcp.json in a project",
        ),
        Client(
            "goose",
            "Goose",
            section="extensions",
            shape=shapes.goose,
            format=Format.YAML,
            files=Files("{XDG_CONFIG_HOME}/goose/config.yaml", windows="{APPDATA}/Block/goose/config/config.yaml"),
            env="envs",
        ),
        Client(
            "codex",
            "Codex",
            section="mcp_servers",
            shape=shapes.codex,
            format=Format.TOML,
            files=Files("{CODEX_HOME}/config.toml"),
            own=OwnCommand(
                "codex mcp add",
                _codex,
                missing="Codex waits 10 seconds for a start and 60 for a call. These lines below "
                f"[mcp_servers.{NAME}] change that: startup_timeout_sec = {shapes.START_TIMEOUT_S}, "
                f"tool_timeout_sec = {shapes.TIMEOUT_S}",
            ),
        ),
        Client(
            "gemini-cli",
            "Gemini CLI",
            files=Files("{GEMINI_CLI_HOME}/.gemini/settings.json"),
            place=".gemini/settings.json in a project",
            own=OwnCommand("gemini mcp add", _gemini),
        ),
        Client(
            "zed",
            "Zed",
            section="context_servers",
            files=Files("{XDG_CONFIG_HOME}/zed/settings.json", windows="{APPDATA}/Zed/settings.json"),
        ),
        Client("windsurf", "Windsurf", files=Files("{HOME}/.codeium/windsurf/mcp_config.json")),
        Client(
            "cline",
            "Cline",
            shape=shapes.cline,
            files=Files("{HOME}/.cline/data/settings/cline_mcp_settings.json"),
        ),
        Client(
            "opencode",
            "opencode",
            section="mcp",
            shape=shapes.opencode,
            files=Files("{XDG_CONFIG_HOME}/opencode/opencode.json"),
            place="opencode.json in a project",
            env="environment",
        ),
        Client(
            "copilot-cli",
            "Copilot CLI",
            shape=shapes.copilot,
            files=Files("{COPILOT_HOME}/mcp-config.json"),
            own=OwnCommand("copilot mcp add", _copilot, remove=("copilot", "mcp", "remove", NAME)),
        ),
        Client("fluidmcp", "FluidMCP", shape=shapes.fluidmcp, place="a package's metadata.json, or the file of --file"),
    )
}
"""All clients by their names."""
