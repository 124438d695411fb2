"""A scripted server and an engine over it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.remote.engine import RemoteEngine
from tests.scripted_openai import ScriptedOpenAI
from tests.unit.engine.remote.samples import engine_for


@pytest.fixture
def server() -> Iterator[ScriptedOpenAI]:
    with ScriptedOpenAI() as running:
        yield running


@pytest.fixture
def engine(server: ScriptedOpenAI) -> Iterator[RemoteEngine]:
    made = engine_for(server)
    yield made
    made.close()
