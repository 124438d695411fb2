"""`call TOOL` runs one tool and prints its result; `tools` lists them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from cli.terminal import usage
from cli.terminal.words import UsageError, arguments_of, nearest, shown
from mcp_protocol.tools.toolbox import ArgumentError, validated
from media.files.file_urls import path_of_file_url

if TYPE_CHECKING:
    from cli.terminal.client import Client
    from cli.terminal.screen import Screen
    from cli.terminal.user_input import UserInput
    from mcp_protocol.tools.toolbox import Tool

Json = dict[str, Any]


def call(program: str, words: Sequence[str], client: Client, screen: Screen, user: UserInput) -> int:
    """Runs `call` and returns the exit status: 1 if the tool failed.

    Raises: `UsageError`; `Interrupted`.
    """
    as_json, name, words = _before_tool(words)
    if name is None:
        screen.write(f"{usage.COMMANDS.format(program=program)}\n")
        return 0
    entry = find(name, client.tools())
    properties = {**usage.CALL_OPTIONS, **entry["inputSchema"]["properties"]}
    arguments = arguments_of(words, properties, user.file)
    if arguments.pop("help", False):
        screen.write(f"{usage.tool_help(program, entry, screen.columns)}\n")
        return 0
    as_json |= arguments.pop("json", False)
    name = entry["name"]
    tool = client.tool(name)
    check(arguments, tool.arguments, entry["inputSchema"].get("required", ()))
    screen.begin("waiting for the result")
    result = client.call(name, arguments, Progress(screen, is_text=tool.text is not None))
    screen.end()
    if result["isError"]:
        screen.complain(_text(result))
        return 1
    screen.write(f"{as_line(result) if as_json else as_text(result, tool)}\n")
    return _status(result, tool, screen)


def tools(program: str, words: Sequence[str], client: Client, screen: Screen, user: UserInput) -> int:
    """Runs `tools` and returns the exit status."""
    options = arguments_of(words, usage.CALL_OPTIONS, user.file)
    if options.get("help"):
        screen.write(f"{usage.COMMANDS.format(program=program)}\n")
    elif options.get("json"):
        screen.write(f"{msgspec.json.encode(client.tools()).decode()}\n")
    else:
        lines = usage.tool_lines(client.tools(), screen.columns if screen.is_terminal else None)
        screen.write("".join(f"{line}\n" for line in lines))
    return 0


class Progress:
    """Shows the progress of a call.

    Arguments: `is_text`, whether messages with a total are pieces of the result's text.
    """

    def __init__(self, screen: Screen, *, is_text: bool) -> None:
        self._screen = screen
        self._is_text = is_text
        self.tick = screen.tick

    def progress(self, params: Json) -> None:
        """Shows one notification."""
        self._screen.progress(step_of(params, is_text=self._is_text))


def step_of(params: Json, *, is_text: bool) -> str:
    """What a progress notification says is being done."""
    message, total = params.get("message"), params.get("total")
    if message is None or (is_text and total is not None):
        return f"{int(params['progress'])} of at most {total} tokens"
    return str(message)


def find(name: str, entries: Sequence[Json]) -> Json:
    """The entry of a tool; raises `UsageError`."""
    for entry in entries:
        if entry["name"] == name.replace("-", "_"):
            return entry
    advice = nearest(name.replace("-", "_"), [entry["name"] for entry in entries]) or " `tools` lists them."
    raise UsageError(f"There is no tool {name[:60]}.{advice}")


def check(arguments: Json, cls: type[msgspec.Struct], required: Sequence[str]) -> None:
    """Raises `UsageError` for arguments that are missing or that the tool does not take."""
    missing = [shown(name) for name in required if name not in arguments]
    if missing:
        raise UsageError(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing.")
    try:
        validated(arguments, cls)
    except ArgumentError as error:
        text = re.sub(r"^arguments\.(\w+)", lambda found: shown(found[1]), str(error))
        raise UsageError(f"{text}.") from None


def as_line(result: Json) -> str:
    """The result as one line of JSON."""
    structured = result.get("structuredContent")
    text = _text(result)
    if structured is None:
        return text if is_object(text) else msgspec.json.encode({"text": text}).decode()
    return msgspec.json.encode(structured).decode()


def as_text(result: Json, tool: Tool) -> str:
    """The result to be read: its text, or its JSON on several lines; then the paths of the files."""
    text = _text(result)
    if tool.text is None and is_object(text):
        text = msgspec.json.format(text, indent=2)
    return "\n".join([text, *paths_of(result)])


def paths_of(result: Json) -> list[str]:
    """The paths of the files to which the result links."""
    links = [block["uri"] for block in result["content"] if block["type"] == "resource_link"]
    return [path_of_file_url(link) for link in links if link.startswith("file:")]


def is_object(text: str) -> bool:
    """Whether a text is a JSON object."""
    try:
        msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return False
    return True


def _before_tool(words: Sequence[str]) -> tuple[bool, str | None, Sequence[str]]:
    """Whether JSON is wanted, the name of the tool (None for help), and the words behind it."""
    as_json = False
    for i, word in enumerate(words):
        if word in ("--help", "-h"):
            return as_json, None, ()
        if word == "--json":
            as_json = True
        elif word.startswith("-"):
            raise UsageError(f"There is no option {word[:60]} before the name of a tool.")
        else:
            return as_json, word, words[i + 1 :]
    raise UsageError("The name of a tool is missing. `tools` lists them.")


def _text(result: Json) -> str:
    return "\n".join(block["text"] for block in result["content"] if block["type"] == "text")


def _status(result: Json, tool: Tool, screen: Screen) -> int:
    """The exit status: 1 for a job without success. A job ends with this process."""
    text = _text(result)
    if tool.result is not None or not is_object(text):
        return 0
    status = msgspec.json.decode(text).get("status", "success")
    if status == "running":
        screen.complain("The job was stopped: it ends with this command. Leave out --wait-s to wait for the result.")
    return int(status != "success")
