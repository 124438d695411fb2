"""The table of tools: one row per tool, used by `tools/list`, validation and dispatch."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Raw

from mcp_protocol.calls.answers import AnswerError
from mcp_protocol.calls.call import Call
from mcp_protocol.calls.deferred import Deferred, DeferredWork
from mcp_protocol.calls.question import Question
from mcp_protocol.calls.scheduling_policy import SchedulingPolicy
from mcp_protocol.jsonrpc import INVALID_PARAMS, Json, ProtocolError, encode
from mcp_protocol.raw_json import members
from mcp_protocol.tools.coercion import HOST_ARGUMENTS, Reserve, coerced, known_at, number_of
from sandbox.budget import OverBudget

OLD_VIEW_KEY = "ui/resourceUri"
"""The key of a tool's view in the first drafts of MCP Apps; some hosts know only this one."""
TOO_DEEP = "arguments: nested too deeply"
MAX_TIMEOUT_S = 86_400
"""The longest `timeout_s` of a call: one day."""


class ArgumentError(Exception):
    """Invalid arguments; `str()` names the argument and what is allowed."""


class Annotations(msgspec.Struct, frozen=True):
    """MCP's annotations of a tool."""

    read_only: bool = msgspec.field(default=True, name="readOnlyHint")
    destructive: bool = msgspec.field(default=False, name="destructiveHint")
    idempotent: bool = msgspec.field(default=False, name="idempotentHint")
    open_world: bool = msgspec.field(default=False, name="openWorldHint")


class Tool(msgspec.Struct, frozen=True):
    """One row of the table.

    Arguments:
        arguments: the Struct that validates the arguments and yields the input schema.
        handler: `(arguments, call, services) -> result`; without `result` it returns content blocks.
        result: the Struct of the result, which yields the output schema.
        text: makes the text block from the result; None for its JSON.
        bypass_queue, exclusive, is_job_control: see `SchedulingPolicy`.
        serial_by: arguments whose values are keys of the `SchedulingPolicy`.
        view: the URI of the view that hosts with MCP Apps show for a call; None for no view.
        task_support: whether a call may become a task: optional, required, or None for not.
        app_only: only a view calls the tool; it is listed for clients with MCP Apps, which hide it from the model.
    """

    name: str
    title: str
    description: str
    arguments: type[msgspec.Struct]
    handler: Callable[..., Any]
    result: type[msgspec.Struct] | None = None
    text: Callable[[Any], str] | None = None
    annotations: Annotations = Annotations()
    is_job_control: bool = False
    bypass_queue: bool = False
    exclusive: bool = False
    serial_by: tuple[str, ...] = ()
    view: str | None = None
    app_only: bool = False
    task_support: Literal["optional", "required"] | None = None

    def listing(self) -> Json:
        """The tool's entry in `tools/list`."""
        from mcp_protocol.tools import schema  # the server's entries are in a file

        entry: Json = {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "inputSchema": schema.of_arguments(self.arguments, brief=True),
        }
        if self.result is not None:
            entry["outputSchema"] = schema.of_result(self.result)
        entry["annotations"] = {"title": self.title, **msgspec.to_builtins(self.annotations)}
        if self.view is not None:
            entry["_meta"] = {"ui": {"resourceUri": self.view}, OLD_VIEW_KEY: self.view}
        if self.app_only:
            entry["_meta"] = {"ui": {"visibility": ["app"]}}
        return entry

    def early(self, arguments: Json | Raw) -> Json:
        """The unvalidated arguments that the scheduling and the timeout depend on; of long arguments only these are
        decoded, in one pass."""
        if not isinstance(arguments, Raw):
            return arguments
        timeout = ("timeout_s",) if self._has_timeout else ()
        return members(arguments, self.serial_by + timeout)

    @property
    def _has_timeout(self) -> bool:
        return "timeout_s" in self.arguments.__struct_fields__

    def policy(self, early: Json) -> SchedulingPolicy:
        """The scheduling of a call with these early arguments."""
        keys = frozenset(value for name in self.serial_by if isinstance(value := early.get(name), str))
        return SchedulingPolicy(keys, self.bypass_queue, self.exclusive, self.is_job_control)

    def timeout_s(self, early: Json) -> float | None:
        """The `timeout_s` argument of a call; it counts from the call's arrival, also while the call waits."""
        if not self._has_timeout:
            return None
        limit_s = number_of(early.get("timeout_s"))
        return limit_s if limit_s is not None and 0 < limit_s <= MAX_TIMEOUT_S else None

    def content(self, result: Any) -> Json:
        """The result of a handler as `content` and `structuredContent`."""
        if self.result is None:
            return {"content": result, "isError": False}
        text = self.text(result) if self.text is not None else json_text(result)
        return {"content": [text_block(text)], "structuredContent": result, "isError": False}


class Toolbox:
    """The tools on offer and their services.

    Arguments:
        tools: the rows, in the order of `tools/list`.
        services: passed to every handler.
        explain: turns an exception of a handler into an error text.
    """

    def __init__(self, tools: Iterable[Tool], services: Any, explain: Callable[[BaseException], str]) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._services = services
        self._explain = explain

    def listing(self, *, with_app_tools: bool = False, with_task_support: bool = False) -> Sequence[Json | Raw]:
        """The entries of `tools/list`, always in the same order; the tools for views come last.

        `with_task_support` says in each entry whether a call may become a task.
        """
        tools = [tool for tool in self._tools.values() if with_app_tools or not tool.app_only]
        return [with_execution(tool.listing(), tool.task_support if with_task_support else None) for tool in tools]

    def find(self, name: str) -> Tool | None:
        """The tool with this name; None if it is not on offer."""
        return self._tools.get(name)

    def why_unknown(self, name: str) -> str:
        """The text for the call of a tool that is not on offer."""
        return f"Unknown tool: {name[:200]}"

    def run(self, call: Call) -> Json:
        """Runs one call; an exception becomes a result with `isError`.

        Raises: `ProtocolError` of a handler, or for a tool that is not on offer; `Question`; `Deferred` of a task's
        handler.
        """
        tool = self._known(call.tool)
        return self._result(
            tool,
            lambda: tool.handler(
                validated(call.decoded_arguments(), tool.arguments, call.reserve), call, self._services
            ),
        )

    def report(self, call: Call, work: DeferredWork) -> Json:
        """The result of a call whose handler has raised `Deferred`, once the work has ended; see `run`."""
        return self._result(self._known(call.tool), work.report)

    def _known(self, name: str) -> Tool:
        tool = self.find(name)
        if tool is None:
            raise ProtocolError(INVALID_PARAMS, self.why_unknown(name))
        return tool

    def _result(self, tool: Tool, make: Callable[[], Any]) -> Json:
        try:
            return tool.content(make())
        except (ProtocolError, Deferred, Question):
            raise
        except (ArgumentError, AnswerError, OverBudget) as error:
            return error_result(str(error))
        except BaseException as error:  # also SystemExit and the like from a library
            return error_result(self._explain(error))


def with_execution(entry: Json, task_support: str | None) -> Json:
    """An entry of `tools/list` that says whether a call may become a task."""
    return entry if task_support is None else {**entry, "execution": {"taskSupport": task_support}}


def json_text(result: Any) -> str:
    """The JSON of a result; lone surrogates become U+FFFD."""
    try:
        return msgspec.json.encode(result).decode()
    except UnicodeEncodeError:  # a lone surrogate
        return encode(result).decode().rstrip("\n")


def text_block(text: str) -> Json:
    """A content block of text."""
    return {"type": "text", "text": text}


def image_block(data: bytes, mime_type: str) -> Json:
    """An image content block; a result that is too long loses it first."""
    return {"type": "image", "data": b64encode(data).decode("ascii"), "mimeType": mime_type}


def link_block(uri: str, name: str, mime_type: str, n_bytes: int, description: str) -> Json:
    """A content block that links to a resource, which clients read with `resources/read`."""
    return {
        "type": "resource_link",
        "uri": uri,
        "name": name,
        "description": description,
        "mimeType": mime_type,
        "size": n_bytes,
    }


def error_result(text: str) -> Json:
    """The result of a failed tool."""
    return {"content": [text_block(text)], "isError": True}


def validated(arguments: Json, cls: type[msgspec.Struct], reserve: Reserve = lambda n_bytes: None) -> Any:
    """The arguments as the tool's Struct; `HOST_ARGUMENTS` are dropped and other types converted, see `coercion`.

    `reserve` reserves the memory for this.

    Raises: `ArgumentError`, with the path of the argument, and the errors of `reserve`.
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
        return _validated_once_coerced(arguments, cls, reserve)
    except RecursionError:
        raise ArgumentError(TOO_DEEP) from None


def _validated_once_coerced(arguments: Json, cls: type[msgspec.Struct], reserve: Reserve) -> Any:
    try:
        return msgspec.convert(coerced(arguments, cls, reserve), cls)
    except msgspec.ValidationError as error:
        raise ArgumentError(_readable(str(error), cls)) from None
    except UnicodeEncodeError:
        raise ArgumentError("arguments: a lone surrogate is not valid text") from None
    except RecursionError:
        raise ArgumentError(TOO_DEEP) from None


def _unknown_argument(name: str, known: tuple[str, ...]) -> str:
    import difflib  # loaded only for errors

    shown = name if len(name) <= 60 else name[:60] + "…"
    nearest = difflib.get_close_matches(name[:60], known, n=1)
    if nearest:
        return f"arguments.{shown}: there is no such argument. Did you mean {nearest[0]}?"
    if not known:
        return f"arguments.{shown}: there is no such argument; this tool takes none."
    return f"arguments.{shown}: there is no such argument. Known: {', '.join(known)}."


_AT = re.compile(r"^(?P<problem>.*?)(?: - at `(?:key in )?\$(?P<path>.*)`)?$", re.DOTALL)


def _readable(message: str, cls: type[msgspec.Struct]) -> str:
    """Rewrites a message of msgspec: ``Expected `int`, got `str` - at `$.seed` `` → `arguments.seed: expected ...`, and
    adds the allowed values of an enum."""
    match = _AT.match(message)
    if match is None:
        return message
    problem = match["problem"].replace("`", "")
    if problem.startswith("Invalid") and (known := known_at(cls, match["path"] or "")):
        problem += f"; known: {', '.join(known)}"
    return f"arguments{match['path'] or ''}: {problem[:1].lower()}{problem[1:]}"
