"""Calls of the tools for providers."""

from __future__ import annotations

from typing import Any

from tests.unit.handlers.tool_client import Client

KEY = "sk-very-secret-0123456789"


TOOL = "generate_multimodal_response"


Json = dict[str, Any]


def ask(client: Client, **arguments: Any) -> Any:
    return client.result(TOOL, {"prompt": "one two", **arguments})


def refusal(client: Client, **arguments: Any) -> str:
    return client.error(TOOL, {"prompt": "one two", **arguments})


def _by_kind(parts: list[Json]) -> list[Json]:
    order = ("text", "image_url", "video_url", "input_audio")
    return sorted(parts, key=lambda part: order.index(part["type"]))
