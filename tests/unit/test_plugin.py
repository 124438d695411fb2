"""The plugin's skills name only tools and arguments that there are, and their calls fit the tools."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from handlers.tool_table import TOOLS
from mcp_protocol.tools import schema
from release.names import FIELDS
from settings import rows

ROOT = Path(__file__).parents[2]
SKILLS = sorted((ROOT / "plugin" / "skills").glob("*/SKILL.md"))
BY_NAME = {tool.name: tool for tool in TOOLS}
MAX_WORDS = 400
"""A skill that is read becomes a part of the conversation."""


def text_of(skill: Path) -> str:
    """The text of a skill below its head."""
    return skill.read_text(encoding="utf-8").split("\n---\n", 1)[1]


def calls(skill: Path) -> list[dict[str, Any]]:
    """The calls in its fenced block."""
    (block,) = re.findall(r"^```json\n(.*?)^```$", text_of(skill), re.MULTILINE | re.DOTALL)
    return [json.loads(line) for line in block.splitlines()]


def test_there_are_two_skills() -> None:
    assert [path.parent.name for path in SKILLS] == ["look-at-images", "make-images"]


@pytest.mark.parametrize("skill", SKILLS, ids=lambda path: path.parent.name)
def test_head_has_the_name_of_the_folder_and_says_when_to_use_it(skill: Path) -> None:
    match = re.match(r"---\nname: (\S+)\ndescription: (.+)\n---\n", skill.read_text(encoding="utf-8"))
    assert match is not None
    assert match[1] == skill.parent.name
    assert "Use it when" in match[2]
    assert len(match[2]) <= 1024


@pytest.mark.parametrize("skill", SKILLS, ids=lambda path: path.parent.name)
def test_tools_and_arguments_that_a_skill_names_exist(skill: Path) -> None:
    named = set(re.findall(r"`([^`\n]+)`", text_of(skill)))
    tools = [BY_NAME[name] for name in named & BY_NAME.keys()]
    arguments = {argument for tool in tools for argument in tool.arguments.__struct_fields__}
    assert named - BY_NAME.keys() - arguments - {row.variable for row in rows()} == set()


@pytest.mark.parametrize("skill", SKILLS, ids=lambda path: path.parent.name)
def test_calls_of_a_skill_fit_the_tools(skill: Path) -> None:
    for call in calls(skill):
        jsonschema.validate(call["arguments"], schema.of_arguments(BY_NAME[call["name"]].arguments))


@pytest.mark.parametrize("skill", SKILLS, ids=lambda path: path.parent.name)
def test_skill_is_short(skill: Path) -> None:
    assert len(text_of(skill).split()) <= MAX_WORDS


def test_readme_of_the_plugin_names_every_setting_that_it_passes_on() -> None:
    named = set(re.findall(r"`([A-Z_]+)`", (ROOT / "plugin" / "README.md").read_text(encoding="utf-8")))
    assert named == {field.variable for field in FIELDS}
