"""Schemas tried in a child: what is refused, what is kept, and that the caller's wishes reach the child."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from engine.errors import GenerationCancelled, GenerationFailed, InvalidGeneration
from engine.interface import Control
from engine.schemas.vetting import SchemaVetting
from sandbox.cancellation import Cancellation
from sandbox.errors import SandboxCrashed, SandboxError, SandboxMemory, SandboxTimeout, SandboxUnavailable
from sandbox.pool import Sandbox
from sandbox.result import Result

pytest.importorskip("llguidance")
Json = dict[str, Any]
FINE: Json = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    shared = Sandbox()
    yield shared
    shared.close()


class ScriptedSandbox:
    """Answers trials from a list, and counts them."""

    def __init__(self, *outcomes: str | SandboxError | None) -> None:
        self.outcomes = list(outcomes)
        self.asked: list[dict[str, Any]] = []

    def run(self, function: str, arguments: dict[str, Any], **how: Any) -> Result:
        self.asked.append(how)
        outcome = self.outcomes.pop(0)
        if isinstance(outcome, SandboxError):
            raise outcome
        return Result(outcome)


def scripted(*outcomes: str | SandboxError | None) -> tuple[SchemaVetting, ScriptedSandbox]:
    sandbox = ScriptedSandbox(*outcomes)
    return SchemaVetting(sandbox), sandbox  # type: ignore[arg-type]


def test_what_can_be_followed_is_taken(sandbox: Sandbox) -> None:
    SchemaVetting(sandbox).check(FINE, Control())


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "strin"}, "this schema cannot be used: invalid type: strin."),
        ({"type": "array", "maxItems": "aa" + "–" * 200}, "this schema cannot be used: it is too complex"),
        ({"type": "array", "items": {}, "minItems": 10**9}, "this schema cannot be used: it is too complex"),
        ({"type": "string", "pattern": "^((a{1000}){1000}){1000}$"}, "this schema cannot be used: it is too complex"),
    ],
    ids=["type", "panic", "memory", "pattern"],
)
def test_what_would_break_the_engine_is_refused_and_the_next_is_served(
    sandbox: Sandbox, schema: Json, words: str
) -> None:
    vetting = SchemaVetting(sandbox)
    began_s = time.monotonic()
    with pytest.raises(InvalidGeneration) as caught:
        vetting.check(schema, Control())
    assert str(caught.value).startswith(words)
    assert time.monotonic() - began_s < 10
    vetting.check({**FINE, "title": words}, Control())
    assert os.getpid() not in sandbox.process_ids()


def test_each_schema_is_tried_once() -> None:
    vetting, sandbox = scripted(None, "it is wrong", SandboxMemory("much"), SandboxCrashed("gone"))
    for _ in range(3):
        vetting.check(FINE, Control())
        for title in ("a", "b", "c"):
            with pytest.raises(InvalidGeneration):
                vetting.check({**FINE, "title": title}, Control())
    assert len(sandbox.asked) == 4


def test_no_more_verdicts_are_kept_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.schemas.vetting.MAX_VERDICTS", 2)
    vetting, sandbox = scripted(*[None] * 4)
    for title in ("a", "b", "a", "c", "a", "b"):
        vetting.check({**FINE, "title": title}, Control())
    assert len(sandbox.asked) == 4


@pytest.mark.parametrize("outcome", [SandboxTimeout("long"), SandboxUnavailable("none")])
def test_what_a_busy_machine_may_be_to_blame_for_is_tried_again(outcome: SandboxError) -> None:
    vetting, _ = scripted(outcome, None)
    with pytest.raises((InvalidGeneration, GenerationFailed)):
        vetting.check(FINE, Control())
    vetting.check(FINE, Control())


def test_the_deadline_of_a_call_bounds_the_trial() -> None:
    vetting, sandbox = scripted(SandboxTimeout("long"))
    with pytest.raises(GenerationFailed, match="time was up"):
        vetting.check(FINE, Control(deadline_s=time.monotonic() - 1))
    with pytest.raises((GenerationFailed, InvalidGeneration)):
        vetting.check(FINE, Control(deadline_s=time.monotonic() + 1))
    assert len(sandbox.asked) == 1
    assert sandbox.asked[0]["timeout_s"] <= 1


def test_cancelling_a_call_ends_its_trial(sandbox: Sandbox) -> None:
    alone = Sandbox(n_children=1)
    vetting = SchemaVetting(alone)
    stop = Cancellation()
    threading.Timer(0.05, stop.set).start()
    began_s = time.monotonic()

    def try_many() -> None:
        while time.monotonic() < began_s + 20:
            vetting.check({"title": str(time.monotonic())}, Control(cancellation=stop))

    with pytest.raises(GenerationCancelled):
        try_many()
    alone.close()
