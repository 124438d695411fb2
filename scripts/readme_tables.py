"""Writes what is generated from `settings/` and the table of tools: the README's tables, and `.env.example`.

.venv/bin/python scripts/readme_tables.py            rewrite README.md and .env.example
.venv/bin/python scripts/readme_tables.py --check    exit 1 where one of them says something else
"""

from __future__ import annotations

import re
import sys
import textwrap
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
    "providers": "Providers, and files with settings",
    "network": "Certificates and proxies",
}
ENV_HEAD = """\
# Settings of the server, as a file: copy it to .env, fill in what you need, and name it in VLLM_ENV_FILE.
#
#     cp .env.example .env
#     VLLM_ENV_FILE=/path/to/vllm-mcp-server/.env python vllm_server.py
#
# A variable that is set otherwise, as in your client's configuration, wins over this file. Git ignores .env: keys may
# be in it. One NAME=value a line; quotes are needed only around values with spaces at their ends, quotes or " #".
# This file is made by scripts/readme_tables.py."""


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


def env_example() -> str:
    """All settings as a `.env` file in which none is set."""
    lines = ENV_HEAD.splitlines()
    for section, title in SECTION_TITLES.items():
        lines += ["", "", f"# {title}"]
        for row in settings.rows():
            if row.section == section and row.variable != "VLLM_ENV_FILE":
                meaning = f"{row.meaning} Allowed: {row.allowed}. Default: {row.default or 'none'}."
                lines += ["", *textwrap.wrap(meaning, 118, initial_indent="# ", subsequent_indent="# ")]
                lines.append(f"#{row.variable}=")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Writes or checks; returns the exit status."""
    readme, example = ROOT / "README.md", ROOT / ".env.example"
    wanted = {readme: with_tables(readme.read_text(encoding="utf-8")), example: env_example()}
    if "--check" in sys.argv[1:]:
        return int(any(not path.exists() or path.read_text(encoding="utf-8") != text for path, text in wanted.items()))
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
