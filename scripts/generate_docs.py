"""Writes what is generated: the pages' tables, the file map, `llms.txt`, `.env.example` and the list of tools.

The sources are the tables of tools and documents, `settings/` and the docstrings of modules. A generated part of a
page is between `<!-- NAME -->` and `<!-- /NAME -->`.

.venv/bin/python scripts/generate_docs.py            rewrite them
.venv/bin/python scripts/generate_docs.py --check    exit 1 where one of them is out of date
"""

from __future__ import annotations

import ast
import functools
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import settings  # noqa: E402
from cli.clients.links import install_links  # noqa: E402
from cli.clients.table import CLIENTS, FOLDERS, Client, Format  # noqa: E402
from handlers.apps.tools import APP_TOOLS  # noqa: E402
from handlers.offered_tools import LIST_FILE  # noqa: E402
from handlers.resources.files import DOCUMENTS  # noqa: E402
from handlers.resources.prompts import PROMPTS  # noqa: E402
from handlers.tool_table import TOOLS  # noqa: E402
from mcp_protocol.jsonrpc import encode  # noqa: E402
from mcp_protocol.tools import schema  # noqa: E402
from mcp_protocol.tools.toolbox import Tool  # noqa: E402
from settings.tool_selection import FAMILIES, families_of  # noqa: E402

Json = dict[str, Any]

SECTION_TITLES = {
    "server": "Server",
    "http": "HTTP",
    "engine": "Model and engine",
    "sampling": "Sampling defaults",
    "sessions": "Sessions",
    "media": "Images, audio and video",
    "omni": "Generating images, video and speech",
    "providers": "Providers, and files with settings",
    "network": "Certificates and proxies",
}
FAMILY_TITLES = {
    "chat": "Chat",
    "vision": "Vision",
    "gpu": "The model and its memory",
    "images": "Image generation and jobs",
    "video": "Video",
    "audio": "Speech",
    "providers": "Providers",
}
RUNTIME = (
    "operating_system",
    "settings",
    "sandbox",
    "http_client",
    "media",
    "mcp_protocol",
    "engine",
    "omni",
    "handlers",
    "cli",
    "mcp_server_vllm",
)
MEDIA_RESULT = (
    "Result: a text block with JSON, a preview image and a link to each file; see "
    "[results](images-and-video.md#results). There is no `structuredContent`."
)
ENV_HEAD = """\
# Settings of the server, as a file: copy it to .env, fill in what you need, and name it in VLLM_ENV_FILE.
#
#     cp .env.example .env
#     VLLM_ENV_FILE=/path/to/vllm-mcp-server/.env python vllm_server.py
#
# A variable of the server's environment, as in your client's configuration, wins over this file. Git ignores .env,
# so it may hold keys. Each line is NAME=value; quotes are needed only around values with spaces at their ends, quotes
# or " #". scripts/generate_docs.py writes this file."""


def settings_tables() -> str:
    """All settings, one table a section."""
    lines: list[str] = []
    for section, title in SECTION_TITLES.items():
        lines += [f"### {title}", "", "| variable | default | allowed | meaning |", "|---|---|---|---|"]
        lines += [
            f"| `{row.variable}` | {row.default or 'none'} | {row.allowed} | {row.meaning} |"
            for row in settings.rows()
            if row.section == section
        ]
        lines.append("")
    return "\n".join(lines)


def tool_reference() -> str:
    """Each tool with its description, arguments and result fields, by family."""
    shown: dict[str, str] = {}
    lines: list[str] = []
    for family in FAMILIES:
        lines += [f"## {FAMILY_TITLES[family]}", ""]
        for tool in TOOLS:
            if families_of(tool.name)[0] == family:
                lines += _tool(tool, shown)
    return "\n".join(lines)


def tool_index() -> str:
    """The names of all tools, one line a family."""
    lines = ["| family | tools |", "|---|---|"]
    for family in FAMILIES:
        names = [f"[`{name}`](#{name})" for name in FAMILIES[family]]
        lines.append(f"| `{family}` | {', '.join(names)} |")
    return "\n".join(lines) + "\n"


def file_map() -> str:
    """Every package with its modules, by the first paragraph of their docstrings."""
    lines = ["- `vllm_server.py`: " + _summary(ROOT / "vllm_server.py")]
    for package in sorted(path.parent for path in ROOT.glob("*/**/__init__.py") if _is_runtime(path)):
        lines += ["", f"`{package.relative_to(ROOT).as_posix()}/`: {_summary(package / '__init__.py')}", ""]
        modules = sorted(path for path in package.glob("*.py") if path.name != "__init__.py")
        lines += [f"- `{path.name}`: {_summary(path)}" for path in modules]
    return "\n".join(lines) + "\n"


def prompt_table() -> str:
    """All prompts with their arguments."""
    lines = ["| prompt | required arguments | optional arguments | what it does |", "|---|---|---|---|"]
    for prompt in PROMPTS:
        required = ", ".join(f"`{argument.name}`" for argument in prompt.arguments if argument.required)
        optional = ", ".join(f"`{argument.name}`" for argument in prompt.arguments if not argument.required)
        lines.append(f"| `{prompt.name}` | {required} | {optional} | {prompt.description} |")
    return "\n".join(lines) + "\n"


def client_links() -> str:
    """The links that add the server to a client, as one line."""
    return " · ".join(f"[{CLIENTS[name].title}]({link})" for name, link in install_links().items()) + "\n"


def client_table() -> str:
    """All clients with the places of their entries, and with what `--install` does."""
    lines = ["| client | CLIENT | the entry goes into | `--install` |", "|---|---|---|---|"]
    lines += [f"| {each.title} | `{each.name}` | {_places(each)} | {_installs(each)} |" for each in CLIENTS.values()]
    return "\n".join(lines) + "\n"


def page_index() -> str:
    """The pages of `docs/` with their subjects."""
    lines = ["| page | subject |", "|---|---|"]
    pages = [document for document in DOCUMENTS if document.path.startswith("docs/")]
    return "\n".join(lines + [f"| [{each.title}]({each.path}) | {each.description} |" for each in pages]) + "\n"


def llms_txt(text: str) -> str:
    """The text of `llms.txt` with the pages' titles and descriptions written anew."""
    for document in DOCUMENTS:
        link = re.compile(rf"^- \[[^]]*\]\({re.escape(document.path)}\): .*$", re.MULTILINE)
        text = link.sub(f"- [{document.title}]({document.path}): {document.description}", text)
    return text


PARTS: Mapping[str, Callable[[], str]] = {
    "settings": settings_tables,
    "tools": tool_reference,
    "tool index": tool_index,
    "files": file_map,
    "pages": page_index,
    "prompts": prompt_table,
    "links": client_links,
    "clients": client_table,
}
"""The generated parts by the name in their marks."""


def _places(client: Client) -> str:
    found: dict[str, list[str]] = {}
    for platform, name in (("linux", "Linux"), ("darwin", "macOS"), ("win32", "Windows")):
        if client.files is not None:
            path = client.files.template(platform).format_map({**FOLDERS, "APPDATA": "%APPDATA%"})
            found.setdefault(path, []).append(name)
    places = [f"`{path}`" + (f" ({', '.join(names)})" if len(found) > 1 else "") for path, names in found.items()]
    return "; ".join(places + [client.place] * bool(client.place))


def _installs(client: Client) -> str:
    if client.own is not None:
        return f"runs `{client.own.name}`"
    return "changes the file" if client.files is not None and client.format is Format.JSON else "prints the entry"


def _tool(tool: Tool, shown: dict[str, str]) -> list[str]:
    lines = [f"### `{tool.name}`", "", tool.description, "", _hints(tool), ""]
    arguments = list(_rows(schema.of_arguments(tool.arguments), "", shown, tool.name))
    if arguments:
        lines += ["| argument | type | default | meaning |", "|---|---|---|---|"]
        lines += [f"| `{path}` | {kind} | {default} | {meaning} |" for path, kind, default, meaning in arguments]
    else:
        lines.append("It takes no arguments.")
    lines.append("")
    if tool.result is None:
        return [*lines, MEDIA_RESULT, ""]
    result = schema.of_result(tool.result)
    results = _rows(result, "", shown, tool.name)
    lines += [_meaning(result), "", "| result field | type | meaning |", "|---|---|---|"]
    lines += [f"| `{path}` | {kind} | {meaning} |" for path, kind, _, meaning in results]
    return [*lines, ""]


def _hints(tool: Tool) -> str:
    hints = [
        "read-only" if tool.annotations.read_only else "changes state",
        *(["destructive"] if tool.annotations.destructive else []),
        *(["idempotent"] if tool.annotations.idempotent else []),
        *(["may reach other machines"] if tool.annotations.open_world else []),
        *(["runs outside the queue"] if tool.bypass_queue else []),
        *(["runs alone"] if tool.exclusive else []),
        *(["has a [view](view.md)"] if tool.view is not None else []),
    ]
    return f"*{tool.title}*: {', '.join(hints)}."


def _rows(node: Json, prefix: str, shown: dict[str, str], tool: str) -> Iterator[tuple[str, str, str, str]]:
    """The members of an object as rows: path, type, default and meaning. Objects in it follow their member."""
    required = node.get("required", [])
    for name, member in node["properties"].items():
        path = prefix + name
        default = "required" if name in required else _default(member)
        objects = list(_objects(member, path))
        meaning = _meaning(member)
        if objects and all(repr(inner) in shown for _, inner in objects):
            place = shown[repr(objects[0][1])]
            yield path, _type(member), default, f"{meaning} Its members are those of {place}.".strip()
            continue
        yield path, _type(member), default, meaning
        for inner_path, inner in objects:
            shown.setdefault(repr(inner), f"`{path}` of [`{tool}`](#{tool})")
            if inner_path.endswith(")"):
                alternative = _meaning(inner)
                yield inner_path, "object", "", "" if alternative == meaning else alternative
                inner = {**inner, "properties": {k: v for k, v in inner["properties"].items() if k != "type"}}
            yield from _rows(inner, inner_path + ".", shown, tool)


def _objects(member: Json, path: str) -> Iterator[tuple[str, Json]]:
    """The objects with known members within a member, each with its path; alternatives have their `type` in it."""
    for choice in _choices(member):
        if choice.get("type") == "array":
            yield from _objects(choice.get("items", {}), path + "[]")
    objects = [choice for choice in _choices(member) if "properties" in choice]
    for each in objects:
        yield path + (f"({each['properties']['type']['enum'][0]})" if len(objects) > 1 else ""), each


def _choices(member: Json) -> list[Json]:
    return [choice for choice in member.get("anyOf", [member]) if choice.get("type") != "null"]


def _type(member: Json) -> str:
    kinds = list(dict.fromkeys(_type_of_choice(choice) for choice in _choices(member)))
    if {"type": "null"} in member.get("anyOf", []):
        kinds.append("null")
    return " or ".join(kinds) or "any"


def _type_of_choice(choice: Json) -> str:
    kind = str(choice.get("type", "any"))
    if "enum" in choice:
        return ", ".join(f"`{value}`" for value in choice["enum"])
    if kind == "array":
        return f"array of {_type(choice.get('items', {}))}{_bounds(choice, 'minItems', 'maxItems', ' items')}"
    if kind == "string":
        return kind + _bounds(choice, "minLength", "maxLength", " characters")
    return kind + _bounds(choice, "minimum", "maximum", "")


def _bounds(node: Json, lower: str, upper: str, unit: str) -> str:
    low, high = node.get(lower), node.get(upper)
    if low is None and high is None:
        return ""
    if high is None:
        return f" (≥ {low}{unit})"
    return f" (≤ {high}{unit})" if low is None else f" ({low} to {high}{unit})"


def _default(member: Json) -> str:
    if "default" not in member:
        return ""
    value = member["default"]
    return {True: "`true`", False: "`false`"}[value] if isinstance(value, bool) else f"`{value}`"


def _meaning(member: Json) -> str:
    """The description of a member, or of the only object that it may be, on one line."""
    choices = _choices(member)
    described = [choice for choice in choices if "properties" not in choice or len(choices) == 1]
    texts = [member.get("description"), *(choice.get("description") for choice in described or choices[:1])]
    return " ".join(" ".join(dict.fromkeys(text for text in texts if text)).split()).replace("|", "\\|")


@functools.cache
def _summary(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.partition("\n\n")[0].split())


def _is_runtime(path: Path) -> bool:
    return path.relative_to(ROOT).parts[0] in RUNTIME


def with_generated_parts(text: str) -> str:
    """A page's text with its generated parts rewritten between their marks."""
    for name, part in PARTS.items():
        marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        if marks.search(text):
            body = part()
            text = marks.sub(lambda match, body=body: f"{match[1]}\n{body}\n{match[2]}", text)  # type: ignore[misc]
    return text


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


def tool_list() -> str:
    """The entry of each tool in `tools/list` by its name, a line each."""
    entries = [f'"{tool.name}":{encode(tool.listing()).decode().rstrip()}' for tool in TOOLS + APP_TOOLS]
    return "{\n" + ",\n".join(entries) + "\n}\n"


def pages() -> list[Path]:
    """The pages that may have generated parts."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def main() -> int:
    """Writes or checks; returns the exit status."""
    wanted = {page: with_generated_parts(page.read_text(encoding="utf-8")) for page in pages()}
    wanted[ROOT / ".env.example"] = env_example()
    wanted[Path(LIST_FILE)] = tool_list()
    wanted[ROOT / "llms.txt"] = llms_txt((ROOT / "llms.txt").read_text(encoding="utf-8"))
    if "--check" in sys.argv[1:]:
        return int(any(not path.exists() or path.read_text(encoding="utf-8") != text for path, text in wanted.items()))
    for path, text in wanted.items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
