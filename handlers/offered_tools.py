"""The tools that the settings select, for the server: their entries in `tools/list` and, by their names, their rows.

The entries are read from `tool_list.json`, and the rows are imported when a tool is first called: with the classes of
their arguments, that takes longer than the rest of the start. All rows come at once, because a process that has run out
of open files or memory by then could import no more.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, Raw, UnsetType

from mcp_protocol.tools.toolbox import Tool, Toolbox, with_execution
from settings.tool_selection import ALL_TOOLS, APP_TOOLS, nearest_tool

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.jsonrpc import Json

LIST_FILE = os.path.join(os.path.dirname(__file__), "tool_list.json")
"""The entry of every tool by its name; `scripts/generate_docs.py` writes it from the rows."""
READ_ONLY_WITH_LOCAL_MODEL = frozenset(
    {
        "chat_completion_batch",
        "analyze_images_with_query",
        "check_image_relevance",
        "analyze_single_image",
        "analyze_video",
    }
)
"""Tools that are read-only only while the model runs here: a remote server may cost money and receives what is sent."""


TASK_TOOLS = frozenset(
    {
        "analyze_video",
        "batch_generate",
        "generate_image",
        "generate_speech",
        "generate_video",
        "process_image_to_video",
        "process_video_to_video",
        "transcribe_audio",
    }
)
"""Tools that make jobs: a call may become a task."""


class _Listed(msgspec.Struct):
    """The part of an entry that says whether the tool has a view."""

    meta: Raw | UnsetType = msgspec.field(default=UNSET, name="_meta")


class OfferedTools(Toolbox):
    """The tools that the settings select, with these services.

    A tool with a view brings the tools of the view with it, unless the setting VLLM_APPS is off.
    """

    def __init__(self, services: Services) -> None:
        super().__init__((), services, _error_text)
        self._names = services.settings.server.offered_tools
        self._has_remote_model = services.settings.engine.base_url is not None
        self._has_apps = services.settings.server.apps
        self._listing: list[Json | Raw] | None = None
        self._app_listing: list[Json | Raw] = []

    def listing(self, *, with_app_tools: bool = False, with_task_support: bool = False) -> list[Json | Raw]:
        """The entries of `tools/list`, always in the same order; the tools of the view come last."""
        if self._listing is None:
            with open(LIST_FILE, "rb") as file:
                entries = msgspec.json.decode(file.read(), type=dict[str, Raw])
            viewed = {name for name in self._names if _has_view(entries[name])}
            self._app_listing = [entries[name] for name in APP_TOOLS] if viewed and self._has_apps else []
            self._listing = [self._entry(name, entries[name], name in viewed) for name in self._names]
        listed = self._listing + self._app_listing if with_app_tools else self._listing
        if not with_task_support:
            return listed
        extended = [
            _with_execution(entry) if name in TASK_TOOLS else entry
            for name, entry in zip(self._names, self._listing, strict=True)
        ]
        return extended + listed[len(extended) :]

    def find(self, name: str) -> Tool | None:
        """The tool with this name; None if it is not on offer."""
        if name not in self._names and not (self._has_apps and name in APP_TOOLS):
            return None
        if not self._tools:
            import handlers.errors  # noqa: F401
            from handlers.apps.tools import APP_TOOLS as APP_ROWS
            from handlers.tool_table import TOOLS

            self._tools = {tool.name: tool for tool in TOOLS + APP_ROWS}
        tool = self._tools[name]
        is_left_out = tool.app_only and not any(self._tools[other].view for other in self._names)
        return None if is_left_out else tool

    def why_unknown(self, name: str) -> str:
        """The text for the call of a tool that is not on offer."""
        if name in ALL_TOOLS:
            return f"Unknown tool: the settings VLLM_TOOLSETS and VLLM_TOOLS of this server leave {name} out"
        if name in APP_TOOLS:
            return f"Unknown tool: the settings of this server leave {name} out, since no tool has a view"
        nearest = nearest_tool(name, self._names)
        return super().why_unknown(name) + (f". Did you mean {nearest}?" if nearest is not None else "")

    def _entry(self, name: str, entry: Raw, has_view: bool) -> Json | Raw:
        may_cost = self._has_remote_model and name in READ_ONLY_WITH_LOCAL_MODEL
        loses_view = has_view and not self._has_apps
        if not may_cost and not loses_view:
            return entry
        changed: Json = msgspec.json.decode(entry)
        if may_cost:
            changed["annotations"]["readOnlyHint"] = False
        if loses_view:
            del changed["_meta"]
        return changed


def _with_execution(entry: Json | Raw) -> Json | Raw:
    """The entry, which says that a call may become a task; bytes are not decoded for it."""
    if isinstance(entry, Raw):
        return Raw(bytes(entry).rstrip()[:-1] + b',"execution":{"taskSupport":"optional"}}')
    return with_execution(entry, "optional")


def _has_view(entry: Raw) -> bool:
    return msgspec.json.decode(entry, type=_Listed).meta is not UNSET


def _error_text(error: BaseException) -> str:
    from handlers.errors import error_text

    return error_text(error)
