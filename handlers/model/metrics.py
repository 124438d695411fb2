"""The engines' part of `/metrics`: where there are several models, each sample has the label `model`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine.counting import CountedEngine
from engine.interface import EngineState
from mcp_protocol.http.metrics import Sample

if TYPE_CHECKING:
    from engine.interface import Engine
    from engine.models import Models


def samples(models: Models) -> Iterator[Sample]:
    """The tokens and the state of each model; makes no engine. Safe from any thread."""
    statuses, engines = models.statuses(), models.engines()
    labels = {name: {"model": name} if len(statuses) > 1 else {} for name in statuses}
    for name in statuses:
        n_prompt, _ = _tokens(engines.get(name))
        yield Sample("prompt_tokens_total", "counter", "Prompt tokens of all completions.", n_prompt, labels[name])
    for name in statuses:
        _, n_generated = _tokens(engines.get(name))
        meaning = "Generated tokens of all completions."
        yield Sample("generated_tokens_total", "counter", meaning, n_generated, labels[name])
    for name, status in statuses.items():
        for state in EngineState:
            meaning = "State of the model: 1 for the current state, 0 for all others."
            yield Sample("engine_state", "gauge", meaning, int(state is status.state), {**labels[name], "state": state})


def _tokens(engine: Engine | None) -> tuple[int, int]:
    return (engine.prompt_tokens, engine.completion_tokens) if isinstance(engine, CountedEngine) else (0, 0)
