"""The table of tools: one row a tool, read by `tools/list`, by validation and by dispatch alike."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Collection, Iterable
from typing import Any

import msgspec
from msgspec import Raw

from mcp_protocol import schema
from mcp_protocol.call import Call
from mcp_protocol.coercion import HOST_ARGUMENTS, Hold, coerced, known_at, number_of
from mcp_protocol.jsonrpc import Json, ProtocolError, encode
from mcp_protocol.raw_json import members
from mcp_protocol.turn import Turn
from sandbox.budget import OverBudget

TOO_DEEP = "arguments: nested too deeply"
MAX_TIMEOUT_S = 86_400
"""The longest limit that a call may bring along: a day."""


class ArgumentError(Exception):
    """The arguments of a tool call do not fit; `str()` names the argument and what is allowed."""


class Tool(msgspec.Struct, frozen=True):
    """One row of the table.

    `arguments` is the Struct that yields the input schema and validates; `result`, where there is one, yields the
    output schema, and `text` then gives the text block (the result's JSON where it is None). A handler without a
    result Struct returns content blocks.

    `at_once`, `exclusive` and `about_jobs` say when its calls may run beside others, `serial_by` which arguments name
    something that calls have to themselves; see `Turn`.
    """

    name: str
    family: str
    title: str
    description: str
    arguments: type[msgspec.Struct]
    handler: Callable[..., Any]
    result: type[msgspec.Struct] | None = None
    text: Callable[[Any], str] | None = None
    read_only: bool = True
    destructive: bool = False
    idempotent: bool = False
    open_world: bool = False
    also_family: str | None = None
    about_jobs: bool = False
    at_once: bool = False
    exclusive: bool = False
    serial_by: tuple[str, ...] = ()

    def listing(self) -> Json:
        """The tool as `tools/list` shows it."""
        shown: Json = {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": schema.of_arguments(self.arguments),
        }
        if self.result is not None:
            shown["outputSchema"] = schema.of_result(self.result)
        shown["annotations"] = {
            "title": self.title,
            "readOnlyHint": self.read_only,
            "destructiveHint": self.destructive,
            "idempotentHint": self.idempotent,
            "openWorldHint": self.open_world,
        }
        return shown

    def early(self, arguments: Json | Raw) -> Json:
        """The arguments that a call's turn and limit depend on, which are not validated yet: of long ones only these,
        read together since each reading goes through all there is."""
        if not isinstance(arguments, Raw):
            return arguments
        limit = ("timeout_s",) if self._takes_limit else ()
        return members(arguments, self.serial_by + limit)

    @property
    def _takes_limit(self) -> bool:
        return "timeout_s" in self.arguments.__struct_fields__

    def turn(self, early: Json) -> Turn:
        """The place of a call with these early arguments among others."""
        keys = frozenset(value for name in self.serial_by if isinstance(value := early.get(name), str))
        return Turn(keys, self.at_once, self.exclusive, self.about_jobs)

    def timeout_s(self, early: Json) -> float | None:
        """The limit that a call with these early arguments brings along; it counts from the call's arrival, so it holds
        while the call waits."""
        if not self._takes_limit:
            return None
        limit_s = number_of(early.get("timeout_s"))
        return limit_s if limit_s is not None and 0 < limit_s <= MAX_TIMEOUT_S else None

    def is_in(self, families: Collection[str]) -> bool:
        """Whether the tool belongs to one of these families."""
        return self.family in families or self.also_family in families

    def content(self, result: Any) -> Json:
        """What a handler returned, as the `content` and `structuredContent` of a result."""
        if self.result is None:
            return {"content": result, "isError": False}
        text = self.text(result) if self.text is not None else json_text(result)
        return {"content": [text_block(text)], "structuredContent": result, "isError": False}


class Toolbox:
    """All tools on offer and what they work with.

    Arguments: the rows in the order they are listed; the services handed to every handler; `explain`, the one
    function that turns an exception of a handler into a sentence for the caller.
    """

    def __init__(self, tools: Iterable[Tool], services: Any, explain: Callable[[BaseException], str]) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._services = services
        self._explain = explain
        self._listing: list[Json] | None = None

    def listing(self) -> list[Json]:
        """All tools as `tools/list` shows them, always in the same order."""
        if self._listing is None:
            self._listing = [tool.listing() for tool in self._tools.values()]
        return self._listing

    def __contains__(self, name: str) -> bool:
        return name in self._tools

    def early(self, name: str, arguments: Json | Raw) -> Json:
        """The arguments of this tool, which must be on offer, that are read on a call's arrival."""
        return self._tools[name].early(arguments)

    def turn(self, name: str, early: Json) -> Turn:
        """The place of a call of this tool, with these early arguments, among others."""
        return self._tools[name].turn(early)

    def timeout_s(self, name: str, early: Json) -> float | None:
        """The limit that a call of this tool, with these early arguments, brings along."""
        return self._tools[name].timeout_s(early)

    def run(self, call: Call) -> Json:
        """Runs one call to its result; whatever goes wrong becomes a result with `isError`.

        Raises: `ProtocolError`, where a handler means one.
        """
        tool = self._tools[call.tool]
        try:
            return tool.content(tool.handler(validated(call.open(), tool.arguments, call.hold), call, self._services))
        except ProtocolError:
            raise
        except (ArgumentError, OverBudget) as error:
            return error_result(str(error))
        except BaseException as error:  # also what a library throws that wants to end the process, or the thread
            return error_result(self._explain(error))


def json_text(result: Any) -> str:
    """The JSON of a result; half a surrogate pair in it becomes U+FFFD."""
    try:
        return msgspec.json.encode(result).decode()
    except UnicodeEncodeError:  # a lone surrogate somewhere in it
        return encode(result).decode().rstrip("\n")


def text_block(text: str) -> Json:
    """A content block of text."""
    return {"type": "text", "text": text}


def image_block(data: bytes, mime_type: str) -> Json:
    """A content block of a picture that is shown; a result that grows too long loses it first."""
    return {"type": "image", "data": b64encode(data).decode("ascii"), "mimeType": mime_type}


def link_block(uri: str, name: str, mime_type: str, n_bytes: int, description: str) -> Json:
    """A content block that points to a resource; hosts read it through `resources/read`."""
    return {
        "type": "resource_link",
        "uri": uri,
        "name": name,
        "description": description,
        "mimeType": mime_type,
        "size": n_bytes,
    }


def error_result(text: str) -> Json:
    """The result of a tool that failed."""
    return {"content": [text_block(text)], "isError": True}


def validated(arguments: Json, cls: type[msgspec.Struct], hold: Hold = lambda n_bytes: None) -> Any:
    """The arguments as the tool's Struct. What hosts add by themselves is dropped, and what they write in another type
    than the schema's is taken where it can mean one thing only; see `coercion`. `hold` takes what that needs of memory.

    Raises: `ArgumentError`, with the argument's path and what was expected, and what `hold` raises.
    """
    known = cls.__struct_encode_fields__
    unknown = [name for name in arguments if name not in known]
    for name in unknown:
        if name not in HOST_ARGUMENTS:
            raise ArgumentError(_unknown_argument(name, known))
    if unknown:
        arguments = {name: value for name, value in arguments.items() if name in known}
    try:
        return msgspec.convert(arguments, cls)
    except (msgspec.ValidationError, UnicodeEncodeError):
        return _validated_once_coerced(arguments, cls, hold)
    except RecursionError:
        raise ArgumentError(TOO_DEEP) from None


def _validated_once_coerced(arguments: Json, cls: type[msgspec.Struct], hold: Hold) -> Any:
    try:
        return msgspec.convert(coerced(arguments, cls, hold), cls)
    except msgspec.ValidationError as error:
        raise ArgumentError(_readable(str(error), cls)) from None
    except UnicodeEncodeError:
        raise ArgumentError("arguments: half a surrogate pair is no text, and stands where none is expected") from None
    except RecursionError:
        raise ArgumentError(TOO_DEEP) from None


def _unknown_argument(name: str, known: tuple[str, ...]) -> str:
    import difflib  # only a mistake pays for it

    shown = name if len(name) <= 60 else name[:60] + "…"
    nearest = difflib.get_close_matches(name[:60], known, n=1)
    if nearest:
        return f"arguments.{shown}: there is no such argument. Did you mean {nearest[0]}?"
    if not known:
        return f"arguments.{shown}: there is no such argument; this tool takes none."
    return f"arguments.{shown}: there is no such argument. Known: {', '.join(known)}."


_AT = re.compile(r"^(?P<problem>.*?)(?: - at `(?:key in )?\$(?P<path>.*)`)?$", re.DOTALL)


def _readable(message: str, cls: type[msgspec.Struct]) -> str:
    """msgspec's sentence as ours: ``Expected `int`, got `str` - at `$.seed` `` → `arguments.seed: expected ...`, with
    the words that are known where another was given."""
    match = _AT.match(message)
    if match is None:
        return message
    problem = match["problem"].replace("`", "")
    if problem.startswith("Invalid") and (known := known_at(cls, match["path"] or "")):
        problem += f"; known: {', '.join(known)}"
    return f"arguments{match['path'] or ''}: {problem[:1].lower()}{problem[1:]}"
