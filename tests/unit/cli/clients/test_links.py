"""The install links hold the entry, in the forms that the clients publish."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from cli.clients.entry import Entry
from cli.clients.links import LINKS, install_links
from tests.documents import ROOT

Query = dict[str, list[str]]
ENTRY = {"command": "uvx", "args": ["mcp-server-vllm"]}
PLAYWRIGHT = Entry("npx", ("@playwright/mcp@latest",))


def in_base64(query: Query) -> Any:
    assert query["name"] == ["vllm"]
    return json.loads(base64.b64decode(query["config"][0], validate=True))


def in_url(query: Query) -> Any:
    scheme, _, rest = query["url"][0].partition("?")
    assert scheme == "vscode:mcp/install"
    named = json.loads(unquote(rest))
    assert named.pop("name") == "vllm"
    return named


def plain(query: Query) -> Any:
    assert query["name"] == ["vllm"]
    return json.loads(query["config"][0])


def in_fields(query: Query) -> Any:
    assert (query["id"], query["name"], query["timeout"]) == (["vllm"], ["vLLM"], ["300"])
    return {"command": query["cmd"][0], "args": query["arg"]}


DECODERS: dict[str, Callable[[Query], Any]] = {
    "cursor": in_base64,
    "vscode": in_url,
    "lm-studio": in_base64,
    "kiro": plain,
    "goose": in_fields,
}


@pytest.mark.parametrize("client", LINKS)
def test_link_holds_the_entry(client: str) -> None:
    url = urlsplit(install_links()[client])
    assert url.scheme == "https"
    assert DECODERS[client](parse_qs(url.query, strict_parsing=True)) == ENTRY


@pytest.mark.parametrize(
    ("client", "published"),
    [
        (
            "vscode",
            "https://insiders.vscode.dev/redirect?url=vscode%3Amcp%2Finstall%3F%257B%2522name%2522%253A%2522playwright%2522"
            "%252C%2522command%2522%253A%2522npx%2522%252C%2522args%2522%253A%255B%2522%2540playwright%252Fmcp%2540latest"
            "%2522%255D%257D",
        ),
        (
            "lm-studio",
            "https://lmstudio.ai/install-mcp?name=playwright&config="
            "eyJjb21tYW5kIjoibnB4IiwiYXJncyI6WyJAcGxheXdyaWdodC9tY3BAbGF0ZXN0Il19",
        ),
        (
            "kiro",
            "https://kiro.dev/launch/mcp/add?name=playwright&config=%7B%22command%22%3A%22npx%22%2C%22args%22%3A%5B%22"
            "%40playwright%2Fmcp%40latest%22%5D%7D",
        ),
    ],
)
def test_form_is_that_of_a_published_link(client: str, published: str) -> None:
    """As the README of microsoft/playwright-mcp has them."""
    assert LINKS[client]("playwright", PLAYWRIGHT) == published


def test_readme_has_the_links() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [client for client, link in install_links().items() if f"]({link})" not in readme] == []
