"""Fixtures for the tests of handlers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from handlers.resources.resources import resource_registry
from mcp_protocol.resources.registry import ResourceRegistry
from tests.scripted_omni import ScriptedOmni
from tests.scripted_openai import (
    MODEL,
    ScriptedOpenAI,
)
from tests.unit.handlers.provider_calls import KEY
from tests.unit.handlers.tool_client import Client, make_image
from tests.unit.handlers.vision_calls import COLOURS


@pytest.fixture
def make_client() -> Iterator[Callable[..., Client]]:
    """Creates clients with their own settings: `make_client(VLLM_MAX_SESSIONS="1")`."""
    made: list[Client] = []

    def make(**environment: str) -> Client:
        made.append(Client(environment))
        return made[-1]

    yield make
    for client in made:
        client.services.close()


@pytest.fixture
def client() -> Client:
    """A client with the default settings."""
    return Client({})


@pytest.fixture
def png() -> bytes:
    """A small red image."""
    return make_image("red")


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Six images of different colours."""
    for colour in COLOURS:
        (tmp_path / f"{colour}.png").write_bytes(make_image(colour))
    return [str(tmp_path / f"{colour}.png") for colour in COLOURS]


@pytest.fixture
def server() -> Iterator[ScriptedOpenAI]:
    """OpenAI."""
    with ScriptedOpenAI(["gpt-x", "both"], owned_by="openai") as running:
        yield running


@pytest.fixture
def lab() -> Iterator[ScriptedOpenAI]:
    """Another provider: vLLM's server."""
    with ScriptedOpenAI([MODEL, "both"]) as running:
        yield running


@pytest.fixture
def provider_client(
    server: ScriptedOpenAI, lab: ScriptedOpenAI, tmp_path: Path, make_client: Callable[..., Client]
) -> Client:
    """Tools with these two, the engine here, and DashScope without a key."""
    entry = {"name": "lab", "base_url": lab.url, "api_key_env": "LAB_KEY"}
    (tmp_path / "config.json").write_text(json.dumps({"providers": [entry]}))
    return make_client(
        VLLM_CONFIG_FILE=str(tmp_path / "config.json"),
        OPENAI_BASE_URL=f"{server.url}/v1",
        OPENAI_API_KEY=KEY,
        LAB_KEY="sk-lab-0123456789",
    )


@pytest.fixture
def omni() -> Iterator[ScriptedOmni]:
    with ScriptedOmni() as server:
        yield server


@pytest.fixture
def omni_client(make_client: Callable[..., Client], omni: ScriptedOmni, tmp_path: Path) -> Client:
    """A client whose images come from the scripted server and go into `out`."""
    return make_client(OMNI_URL=omni.url, OMNI_OUTPUT_DIR=str(tmp_path / "out"))


@pytest.fixture
def shown(client: Client) -> ResourceRegistry:
    """The catalogues over the client's services."""
    return resource_registry(client.services)
