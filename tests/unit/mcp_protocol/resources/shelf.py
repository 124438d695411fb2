"""A catalogue for the tests of the protocol: a few resources that tests change, and two prompts."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from typing import Any

from mcp_protocol.resources.prompts import Prompt, PromptArgument, PromptError
from mcp_protocol.resources.registry import ResourceRegistry
from mcp_protocol.resources.resource import Contents, Resource, ResourceKind, ResourceNotFound, ResourceTemplate
from mcp_protocol.versions import Cache

NOTE = "test://note"
BLOB = b"\x00\xff\x10"


class Shelf:
    """What there is to read: `texts` by their URIs below test://texts/, each of which a test may change."""

    def __init__(self, **texts: str) -> None:
        self.texts: dict[str, str | bytes] = dict(texts)
        self.readers: list[str] = []
        self.n_loads = 0
        self.broken = False
        self.prepared_by: list[str] = []

    def resource_registry(self) -> ResourceRegistry:
        """The catalogues of a server."""
        self.n_loads += 1
        return ResourceRegistry(KINDS, PROMPTS, self, self._prepare)

    def _prepare(self) -> None:
        self.prepared_by.append(threading.current_thread().name)


def _note(shelf: Shelf) -> Iterator[Resource]:
    yield Resource(NOTE, "note", "A note", "Always there.", "text/plain", 5)


def _texts(shelf: Shelf) -> Iterator[Resource]:
    if shelf.broken:
        raise RuntimeError("secret at 0x7f00")
    for name in shelf.texts:
        yield Resource(f"test://texts/{name}", name)


def _read_text(uri: str, shelf: Shelf) -> Contents:
    shelf.readers.append(threading.current_thread().name)
    name = uri.removeprefix("test://texts/")
    if name == "broken":
        raise RuntimeError("secret at 0x7f00")
    if name not in shelf.texts:
        raise ResourceNotFound
    return Contents("text/plain", shelf.texts[name], f"It lies at /shelf/{name}.")


def _version_of_text(uri: str, shelf: Shelf) -> object:
    if uri.endswith("/never"):
        raise ResourceNotFound
    if shelf.broken:
        raise RuntimeError("secret at 0x7f00")
    return shelf.texts.get(uri.removeprefix("test://texts/"))


def _greeting(given: Mapping[str, str]) -> str:
    if given["name"] == "Nobody":
        raise PromptError("arguments.name must be somebody")
    return f"Say hello to {given['name']} {given.get('how', 'kindly')}."


KINDS = (
    ResourceKind(
        prefix=NOTE,
        resources=_note,
        read=lambda uri, shelf: Contents("text/plain", "hello", ""),
        version=lambda uri, shelf: 1,
        cache=Cache(1000),
    ),
    *(
        ResourceKind(
            prefix=begin,
            resources=_texts if not on_worker else lambda shelf: (),
            read=lambda uri, shelf: _read_text(uri.replace("later", "texts"), shelf),
            version=_version_of_text,
            cache=Cache(0, "private"),
            template=ResourceTemplate(begin + "{name}", "text", "A text", "One of the texts.", "text/plain"),
            complete={"name": lambda value, shelf: [name for name in shelf.texts if name.startswith(value)]},
            on_worker=on_worker,
        )
        for begin, on_worker in (("test://texts/", False), ("test://later/", True))
    ),
)

PROMPTS = (
    Prompt(
        "greet",
        "test",
        "Greet",
        "Greets somebody.",
        (
            PromptArgument("name", "Whom.", required=True, complete=lambda value, shelf: ["Ada", "Bob"]),
            PromptArgument("how", "How."),
        ),
        _greeting,
    ),
    Prompt("plain", "test", "Plain", "Takes nothing.", (), lambda given: "Hello."),
)


def prompt_of(answer: dict[str, Any]) -> str:
    """The text of a prompt that was filled in."""
    (message,) = answer["result"]["messages"]
    return str(message["content"]["text"])
