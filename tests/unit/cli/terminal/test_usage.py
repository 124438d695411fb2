from __future__ import annotations

from typing import Any

import pytest

from cli.terminal.usage import first_sentence, tool_help, tool_lines
from handlers.tool_table import TOOLS

Json = dict[str, Any]


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
def test_help_has_every_argument_within_the_width(tool: Any) -> None:
    text = tool_help("server", tool.listing(), 72)
    assert text.startswith(f"usage: server call {tool.name}")
    for name in tool.listing()["inputSchema"]["properties"]:
        assert f"\n  --{name.replace('_', '-')}" in text
    assert all(len(line) <= 72 for line in text.splitlines() if line.startswith("      "))


def test_help_shows_kinds_bounds_and_defaults() -> None:
    entry: Json = {
        "name": "draw",
        "description": "Draws.",
        "inputSchema": {
            "properties": {
                "prompt": {"type": "string", "description": "What."},
                "sizes": {"type": "array", "items": {"type": "integer"}},
                "steps": {"type": "integer", "minimum": 1, "maximum": 9, "default": 4},
                "fast": {"type": "boolean", "default": True},
                "style": {"type": "string", "enum": ["a", "b"]},
                "more": {"type": "object"},
            },
            "required": ["prompt"],
        },
    }
    text = tool_help("server", entry, 100)
    assert "usage: server call draw --prompt TEXT [--argument value ...] [--json]" in text
    assert "  --prompt TEXT  (required)\n      What." in text
    assert "  --sizes VALUE ...\n" in text
    assert "  --steps N\n      From 1 to 9. Default: 4.\n" in text
    assert "  --fast, --no-fast\n      Default: true.\n" in text
    assert "  --style a|b\n" in text
    assert "  --more JSON\n" in text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("Makes images. Use it often.", "Makes images."),
        ("Makes images", "Makes images."),
        ("Makes images: many of them.", "Makes images."),
        ("Waits 0.5 s at most; then returns. More.", "Waits 0.5 s at most."),
    ],
)
def test_first_sentence(text: str, sentence: str) -> None:
    assert first_sentence(text) == sentence


def test_lines_of_tools_are_cut_to_the_width_of_a_terminal() -> None:
    entries = [{"name": "a", "description": "One. Two."}, {"name": "long", "description": "x" * 90}]
    assert list(tool_lines(entries, None)) == ["a     One.", f"long  {'x' * 90}."]
    assert list(tool_lines(entries, 40)) == ["a     One.", f"long  {'x' * 32}…"]
