"""The file with the entries of `tools/list`, and how many bytes a host's model gets of it."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest

from handlers.apps.tools import APP_TOOLS
from handlers.offered_tools import LIST_FILE, TASK_TOOLS, OfferedTools
from handlers.services import Services
from handlers.tool_table import TOOLS
from settings import read
from settings.tool_selection import ALL_TOOLS, TOOLSETS
from settings.tool_selection import APP_TOOLS as APP_NAMES

Json = dict[str, Any]

MAX_BYTES = 44_250
"""For all tools. A change may raise it by 600 for each tool and by 120 for each argument that it adds, on average."""
MAX_SLIM_BYTES = 10_080
"""For the preset slim; the same rule holds."""
MAX_DESCRIPTION = 400


def listed(**environment: str) -> list[Json]:
    """The entries of `tools/list` as a client decodes them."""
    services = Services(read(environment))
    entries: list[Json] = msgspec.json.decode(msgspec.json.encode(OfferedTools(services).listing()))
    services.close()
    return entries


def test_only_the_tools_that_make_jobs_say_that_they_work_as_tasks() -> None:
    assert {tool.name for tool in TOOLS + APP_TOOLS if tool.task_support == "optional"} == TASK_TOOLS
    services = Services(read({"VLLM_TOOLSETS": "all"}))
    offered = OfferedTools(services)
    plain, told = (
        msgspec.json.decode(msgspec.json.encode(offered.listing(with_app_tools=True, with_task_support=with_support)))
        for with_support in (False, True)
    )
    services.close()
    assert {tool["name"] for tool in told if "execution" in tool} == TASK_TOOLS
    assert [{key: value for key, value in tool.items() if key != "execution"} for tool in told] == plain


def shown_bytes(tools: list[Json]) -> int:
    """The bytes that hosts put into the context of their models."""
    return sum(len(msgspec.json.encode({key: tool[key] for key in SHOWN})) for tool in tools)


SHOWN = ("name", "description", "inputSchema")


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """The script that writes the file."""
    spec = importlib.util.spec_from_file_location(
        "generate_docs", Path(__file__).parents[3] / "scripts/generate_docs.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_file_has_the_entries_of_the_rows(generator: ModuleType) -> None:
    text = Path(LIST_FILE).read_text(encoding="ascii")
    assert text == generator.tool_list(), "run scripts/generate_docs.py"
    assert msgspec.json.decode(text) == {tool.name: msgspec.to_builtins(tool.listing()) for tool in TOOLS + APP_TOOLS}


def test_settings_know_the_names_of_all_tools_in_their_order() -> None:
    assert tuple(tool.name for tool in TOOLS) == ALL_TOOLS
    assert tuple(tool.name for tool in APP_TOOLS) == APP_NAMES


def test_all_tools_take_little_of_the_context() -> None:
    assert shown_bytes(listed()) <= MAX_BYTES


def test_slim_takes_very_little_of_the_context() -> None:
    assert shown_bytes(listed(VLLM_TOOLSETS="slim")) <= MAX_SLIM_BYTES


def descriptions(node: Any) -> Iterator[str]:
    """All descriptions in an entry."""
    if isinstance(node, dict):
        if isinstance(node.get("description"), str):
            yield node["description"]
        yield from (text for value in node.values() for text in descriptions(value))
    elif isinstance(node, list):
        yield from (text for value in node for text in descriptions(value))


@pytest.mark.parametrize("tool", TOOLS + APP_TOOLS, ids=lambda tool: str(tool.name))
def test_descriptions_are_short(tool: Any) -> None:
    entry = tool.listing()
    texts = [entry["description"], *descriptions(entry["inputSchema"])]
    assert [text for text in texts if len(text) > MAX_DESCRIPTION] == []


def test_slim_names_only_tools_that_it_has() -> None:
    tools = listed(VLLM_TOOLSETS="slim")
    text = msgspec.json.encode([{key: tool[key] for key in SHOWN} for tool in tools]).decode()
    assert set(re.findall(r"\w+", text)).intersection(ALL_TOOLS) == set(TOOLSETS["slim"])
