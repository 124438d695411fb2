"""Links that add the server to a client, for the README; the server is started by `uvx`."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from urllib.parse import quote, urlencode

import msgspec

from cli.clients.entry import NAME, TITLE, Entry, this_server
from cli.clients.shapes import TIMEOUT_S, Json, plain


def _compact(value: Json) -> str:
    return msgspec.json.encode(value).decode()


def _in_base64(value: Json) -> str:
    return base64.b64encode(_compact(value).encode()).decode()


def _cursor(name: str, entry: Entry) -> str:
    return "https://cursor.com/en/install-mcp?" + urlencode({"name": name, "config": _in_base64(plain(entry))})


def _vscode(name: str, entry: Entry) -> str:
    """The address of a page of VS Code that leads to its own scheme: pages of repositories show no such links."""
    own = "vscode:mcp/install?" + quote(_compact({"name": name, **plain(entry)}), safe="")
    return "https://insiders.vscode.dev/redirect?url=" + quote(own, safe="")


def _lm_studio(name: str, entry: Entry) -> str:
    return "https://lmstudio.ai/install-mcp?" + urlencode({"name": name, "config": _in_base64(plain(entry))})


def _kiro(name: str, entry: Entry) -> str:
    query = {"name": name, "config": _compact(plain(entry))}
    return "https://kiro.dev/launch/mcp/add?" + urlencode(query, quote_via=quote)


def _goose(name: str, entry: Entry) -> str:
    command = [("cmd", entry.command), *(("arg", argument) for argument in entry.args)]
    query = [*command, ("id", name), ("name", TITLE), ("timeout", str(TIMEOUT_S))]
    return "https://block.github.io/goose/extension?" + urlencode(query, quote_via=quote)


LINKS: Mapping[str, Callable[[str, Entry], str]] = {
    "cursor": _cursor,
    "vscode": _vscode,
    "lm-studio": _lm_studio,
    "kiro": _kiro,
    "goose": _goose,
}
"""The clients that can be reached by a link, by their names in the table."""


def install_links() -> dict[str, str]:
    """The link of each of these clients."""
    entry = this_server({}, by_uvx=True)
    return {name: link(NAME, entry) for name, link in LINKS.items()}
