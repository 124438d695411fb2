"""Calls of the vision tools."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jsonschema

from handlers.tool_table import TOOLS
from mcp_protocol.jsonrpc import encode
from tests.unit.handlers.tool_client import Client, Json

MakeClient = Callable[..., Client]


OUTPUT_SCHEMAS: dict[str, Json] = {tool.name: tool.listing().get("outputSchema", {}) for tool in TOOLS}


COLOURS = ("red", "lime", "blue", "yellow", "black", "white")


def structured(result: Json) -> Any:
    """The `structuredContent` as a client reads it."""
    return json.loads(encode(result["structuredContent"]))


def analyse(client: Client, image_paths: list[str], query: str = "What is it?", **arguments: Any) -> Any:
    """The result of a call that succeeds, checked against its schema."""
    result = client.run("analyze_images_with_query", {"image_paths": image_paths, "query": query, **arguments})
    assert not result["isError"], result
    analysed = structured(result)
    jsonschema.Draft202012Validator(OUTPUT_SCHEMAS["analyze_images_with_query"]).validate(analysed)
    assert json.loads(result["content"][0]["text"]) == analysed
    return analysed


def decide(client: Client, *probabilities: float) -> None:
    """Queues the outcomes of relevance checks, as the probability of yes."""
    for probability in probabilities:
        client.engine.enqueue("yes" if probability > 0.5 else "no", probabilities=(probability, 1 - probability))
