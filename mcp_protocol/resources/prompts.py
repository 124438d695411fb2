"""The table of prompts: one row per prompt, used by `prompts/list` and `prompts/get`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from mcp_protocol.jsonrpc import Json
from mcp_protocol.resources.resource import Complete

MAX_ARGUMENT_CHARACTERS = 20_000


class PromptError(Exception):
    """Invalid arguments of a prompt; `str()` names them and what is allowed."""


class PromptArgument(msgspec.Struct, frozen=True):
    """An argument of a prompt; `complete` returns its completions."""

    name: str
    description: str
    required: bool = False
    complete: Complete | None = None

    def listing(self) -> Json:
        """The argument's entry in `prompts/list`."""
        return {"name": self.name, "description": self.description, "required": self.required}


class Prompt(msgspec.Struct, frozen=True):
    """One row of the table; `tool` is the tool that it is about, `text` makes the user message from the arguments."""

    name: str
    tool: str
    title: str
    description: str
    arguments: tuple[PromptArgument, ...]
    text: Callable[[Mapping[str, str]], str]

    def listing(self) -> Json:
        """The prompt's entry in `prompts/list`."""
        return {
            "name": self.name,
            "title": self.title,
            "description": self.description,
            "arguments": [argument.listing() for argument in self.arguments],
        }

    def result(self, given: Any) -> Json:
        """The result of `prompts/get`; raises `PromptError`."""
        text = self.text(self._checked(given))
        return {
            "description": self.description,
            "messages": [{"role": "user", "content": {"type": "text", "text": text}}],
        }

    def _checked(self, given: Any) -> dict[str, str]:
        """The arguments without empty ones, which clients send for blank fields."""
        if given is not None and not isinstance(given, dict):
            raise PromptError("arguments must be an object")
        known = {argument.name for argument in self.arguments}
        if unknown := [_shown(name) for name in given or {} if name not in known]:
            raise PromptError(f"unknown arguments: {', '.join(unknown[:5])}; known: {', '.join(sorted(known))}")
        for name, value in (given or {}).items():
            if not isinstance(value, str):
                raise PromptError(f"arguments.{name} must be a string")
            if len(value) > MAX_ARGUMENT_CHARACTERS:
                raise PromptError(f"arguments.{name} is longer than {MAX_ARGUMENT_CHARACTERS} characters")
        filled = {name: value.strip() for name, value in (given or {}).items() if value.strip()}
        if missing := [a.name for a in self.arguments if a.required and a.name not in filled]:
            raise PromptError(f"missing arguments: {', '.join(missing)}")
        return filled


def _shown(name: str) -> str:
    return name if len(name) <= 60 else name[:60] + "…"
