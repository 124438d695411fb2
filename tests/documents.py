"""The documents of the repository, and the commands and JSON values in their fenced blocks."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PLACEHOLDER = "/path/to/vllm-mcp-server"
"""What stands for the folder of a clone in examples."""
PATTERNS = ("README.md", "SECURITY.md", "docs/*.md", "examples/**/README.md", "models/*/README.md")
_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>```+|~~~+)[^\n]*\n(?P<text>.*?)^(?P=indent)(?P=fence) *$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """The text of a fenced block, whatever its fence says, and where it begins."""

    document: Path
    line: int
    text: str

    @property
    def place(self) -> str:
        """The document and the line, for messages."""
        return f"{self.document.relative_to(ROOT)}:{self.line}"

    def values(self) -> list[Any] | None:
        """The JSON values, one for the whole block or one a line; None where the block is not JSON."""
        for texts in ([self.text], self.text.splitlines()):
            try:
                return [json.loads(text) for text in texts if text.strip()]
            except ValueError:
                continue
        return None

    def commands(self) -> list[str]:
        """The shell commands, without comments; one may take several lines."""
        commands, lines = [], list[str]()
        for line in self.text.splitlines():
            lines.append(line)
            command = re.sub(r"(^|\s)#\s.*$", "", "\n".join(lines)).strip()
            if not command.endswith("\\") and is_complete(command):
                commands += [command] if command else []
                lines = []
        assert not lines, f"{self.place}: the shell does not take {lines}"
        return commands


def is_complete(command: str) -> bool:
    """Whether the shell can parse the command."""
    return subprocess.run(["bash", "-n", "-c", command], capture_output=True).returncode == 0


def documents() -> list[Path]:
    """Every document that shows commands."""
    return sorted({path for pattern in PATTERNS for path in ROOT.glob(pattern)})


def blocks() -> Iterator[Block]:
    """Every fenced block of every document."""
    for document in documents():
        text = document.read_text(encoding="utf-8")
        for found in _FENCE.finditer(text):
            yield Block(document, text.count("\n", 0, found.start()) + 1, found["text"])


def json_blocks() -> list[Block]:
    """The blocks that are JSON."""
    return [block for block in blocks() if block.values() is not None]


def other_blocks() -> list[Block]:
    """All other blocks."""
    return [block for block in blocks() if block.values() is None]
