"""Writes the README's generated tables: the settings from `settings.py`, the tools from the table of tools.

.venv/bin/python scripts/readme_tables.py            rewrite README.md
.venv/bin/python scripts/readme_tables.py --check    exit 1 where README.md says something else
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import settings  # noqa: E402
from handlers.catalog import TOOLS  # noqa: E402

SECTION_TITLES = {
    "server": "Server",
    "http": "HTTP",
    "engine": "Model and engine",
    "sampling": "Sampling defaults",
    "sessions": "Sessions",
    "media": "Pictures, audio and video",
    "omni": "Generating images and videos",
}


def settings_table() -> str:
    """All settings, one table a section."""
    lines: list[str] = []
    for section, title in SECTION_TITLES.items():
        lines += [f"**{title}**", "", "| variable | default | allowed | meaning |", "|---|---|---|---|"]
        lines += [
            f"| `{row.variable}` | {row.default or 'none'} | {row.allowed} | {row.meaning} |"
            for row in settings.rows()
            if row.section == section
        ]
        lines.append("")
    return "\n".join(lines)


def tools_table() -> str:
    """All tools with what they are for."""
    lines = ["| tool | family | what it does |", "|---|---|---|"]
    lines += [f"| `{tool.name}` | {tool.family} | {tool.description} |" for tool in TOOLS]
    return "\n".join(lines) + "\n"


def with_tables(readme: str) -> str:
    """The README's text with its tables written anew between their marks."""
    for name, table in (("settings", settings_table()), ("tools", tools_table())):
        marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        readme = marks.sub(lambda match, table=table: f"{match[1]}\n{table}\n{match[2]}", readme)  # type: ignore[misc]
    return readme


def main() -> int:
    """Writes or checks; returns the exit status."""
    path = ROOT / "README.md"
    old = path.read_text(encoding="utf-8")
    new = with_tables(old)
    if "--check" in sys.argv[1:]:
        return int(new != old)
    path.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
