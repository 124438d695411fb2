"""The help texts of the commands, made from the schemas of the tools."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cli.terminal.words import has_plain_items, kinds_of, shown

Json = dict[str, Any]

MAX_COLUMNS = 100
COMMANDS = """\
usage: {program} call TOOL [--argument value ...] [--json]
       {program} call TOOL --help
       {program} tools [--json]
       {program} chat [--image PATH ...] [--system TEXT]
       {program} compile [--model NAME]

Options of the server, such as --log-level, come before the command; its settings are the same environment variables."""
CALL_OPTIONS: dict[str, Json] = {
    "json": {"type": "boolean", "description": "Print the structured result as one line of JSON."},
    "help": {"type": "boolean", "description": "Print the arguments of the tool, and exit."},
}
HINTS = """\
A list takes several values, or is repeated; in place of JSON, lists and objects take @FILE. @- reads stdin. Relative \
paths mean the working folder."""


def tool_help(program: str, tool: Json, columns: int) -> str:
    """The arguments of one tool.

    Arguments:
        program: the name of the program.
        tool: the entry of `tools/list`.
        columns: the width of the terminal.
    """
    schema = tool["inputSchema"]
    required: Sequence[str] = schema.get("required", ())
    usage = " ".join(f"{shown(name)} {_placeholder(name, schema['properties'][name])}" for name in required)
    head = f"usage: {program} call {tool['name']} {usage}".rstrip()
    rest = " [--argument value ...]" if len(schema["properties"]) > len(required) else ""
    return "\n".join(
        [
            f"{head}{rest} [--json]",
            "",
            _wrapped(tool["description"], columns),
            "",
            *_options({**schema["properties"], **CALL_OPTIONS}, required, columns),
            "",
            _wrapped(HINTS, columns),
        ]
    )


def chat_help(program: str, properties: Mapping[str, Json], about: str, columns: int) -> str:
    """The options of `chat`."""
    head = f"usage: {program} chat [--option value ...]"
    return "\n".join([head, "", about, "", *_options(properties, (), columns)])


def tool_lines(tools: Sequence[Json], columns: int | None) -> Iterator[str]:
    """One line for each tool: its name and the first sentence of its description, cut to the width if there is one."""
    width = max((len(tool["name"]) for tool in tools), default=0)
    for tool in tools:
        line = f"{tool['name']:{width}}  {first_sentence(tool['description'])}"
        yield line if columns is None or len(line) < columns else line[: max(0, columns - 2)] + "…"


def first_sentence(text: str) -> str:
    """The text up to the first full stop, colon or semicolon that ends a part of it."""
    return re.split(r"(?<=\.)\s|[:;]\s", text, maxsplit=1)[0].rstrip(".") + "."


def _options(properties: Mapping[str, Json], required: Sequence[str], columns: int) -> Iterator[str]:
    for name, schema in properties.items():
        is_switch = kinds_of(schema) == {"boolean"}
        no = f", --no-{name.replace('_', '-')}" if is_switch and name not in CALL_OPTIONS else ""
        value = no if is_switch else f" {_placeholder(name, schema)}"
        yield f"  {shown(name)}{value}{'  (required)' if name in required else ''}"
        if meaning := _meaning(schema):
            yield textwrap.indent(_wrapped(meaning, columns - 6), "      ")


def _placeholder(name: str, schema: Json) -> str:
    kinds = kinds_of(schema)
    if "array" in kinds:
        return f"{'PATH' if 'path' in name else 'VALUE'} ..." if has_plain_items(schema) else "JSON"
    if "enum" in schema:
        return "|".join(map(str, schema["enum"]))
    if "string" in kinds:
        return "PATH" if name.endswith("path") else "TEXT"
    return "JSON" if "object" in kinds else "N"


def _meaning(schema: Json) -> str:
    """The description of an argument, with its bounds and its default."""
    choices = schema.get("anyOf", ())
    words = [schema.get("description") or next((each["description"] for each in choices if "description" in each), "")]
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None:
        words.append(f"From {low} to {high}.")
    elif low is not None:
        words.append(f"At least {low}.")
    if schema.get("default") not in (None, False, [], ""):
        default = schema["default"]
        words.append(f"Default: {str(default).lower() if isinstance(default, bool) else default}.")
    return " ".join(filter(None, words))


def _wrapped(text: str, columns: int) -> str:
    return textwrap.fill(text, max(30, min(columns, MAX_COLUMNS)), break_long_words=False, break_on_hyphens=False)
