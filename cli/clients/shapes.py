"""The forms in which clients write an entry, and the formats of their files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from cli.clients.entry import NAME, TITLE, Entry

Json = dict[str, Any]
Shape = Callable[[Entry], Json]

TIMEOUT_S = 300
"""How long a client may wait for an answer: the first call loads the model. For clients with a short default."""
START_TIMEOUT_S = 60
"""How long a client may wait for the start: the first one with `uvx` downloads the packages."""
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def plain(entry: Entry) -> Json:
    """The form of Claude Desktop, which most clients have taken over."""
    return {"command": entry.command, "args": list(entry.args), **({"env": dict(entry.env)} if entry.env else {})}


def typed(entry: Entry) -> Json:
    """The form of clients that tell transports apart by `type`."""
    return {"type": "stdio", **plain(entry)}


def cline(entry: Entry) -> Json:
    """The form of Cline; the timeout is in seconds."""
    return {**typed(entry), "timeout": TIMEOUT_S, "disabled": False}


def codex(entry: Entry) -> Json:
    """The form of Codex, whose own limits are 10 seconds for the start and 60 for a call."""
    return {**plain(entry), "startup_timeout_sec": START_TIMEOUT_S, "tool_timeout_sec": TIMEOUT_S}


def copilot(entry: Entry) -> Json:
    """The form of Copilot CLI, which asks for the tools to be named."""
    return {"type": "local", **plain(entry), "tools": ["*"]}


def goose(entry: Entry) -> Json:
    """The form of Goose; the timeout is in seconds."""
    return {
        "name": TITLE,
        "type": "stdio",
        "cmd": entry.command,
        "args": list(entry.args),
        "envs": dict(entry.env),
        "timeout": TIMEOUT_S,
        "enabled": True,
    }


def opencode(entry: Entry) -> Json:
    """The form of opencode; the timeout is for the start, in milliseconds."""
    return {
        "type": "local",
        "command": [entry.command, *entry.args],
        **({"environment": dict(entry.env)} if entry.env else {}),
        "enabled": True,
        "timeout": START_TIMEOUT_S * 1000,
    }


def through_wsl(entry: Entry) -> Json:
    """The form for a client on Windows and a server in WSL. `wsl.exe` passes no variables on, so `env` sets them."""
    variables = (f"{name}={value}" for name, value in entry.env.items())
    return plain(Entry("wsl.exe", ("--exec", "env", *variables, entry.command, *entry.args)))


def fluidmcp(entry: Entry) -> Json:
    """The form of FluidMCP, which gives up after 30 seconds and then delivers late answers to the wrong caller."""
    return plain(Entry(entry.command, entry.args, {"VLLM_CALL_TIMEOUT": "25", "VLLM_PRELOAD": "1", **entry.env}))


def json_text(section: str, shaped: Json) -> str:
    """The entry as a JSON file."""
    return json.dumps({section: {NAME: shaped}}, indent=2)


def toml_text(section: str, shaped: Json) -> str:
    """The entry as a part of a TOML file."""
    tables = {f"{section}.{NAME}": {name: value for name, value in shaped.items() if not isinstance(value, dict)}}
    tables |= {f"{section}.{NAME}.{name}": value for name, value in shaped.items() if isinstance(value, dict)}
    return "\n\n".join(
        "\n".join([f"[{table}]", *(f"{_key(name)} = {_scalar(value)}" for name, value in members.items())])
        for table, members in tables.items()
    )


def yaml_text(section: str, shaped: Json) -> str:
    """The entry as a part of a YAML file."""
    return "\n".join([f"{section}:", f"  {NAME}:", *(f"    {_key(name)}: {_scalar(v)}" for name, v in shaped.items())])


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _quoted(name)


def _scalar(value: object) -> str:
    """A value in what TOML and YAML have in common; a mapping only in YAML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_quoted(name)}: {_scalar(member)}" for name, member in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_scalar, value)) + "]"
    return _quoted(value) if isinstance(value, str) else str(value)


def _quoted(text: str) -> str:
    """A string in quotes, with escapes that TOML and YAML share: JSON's would split characters beyond U+FFFF."""
    return '"' + "".join(_escaped(character) for character in text) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    if " " <= character <= "~":
        return character
    number = ord(character)
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"
