"""An engine whose tokens are counted."""

from __future__ import annotations

import pytest

from engine.counting import CountedEngine
from engine.errors import GenerationCancelled
from engine.interface import Control, Conversation, Engine, EngineState, Message, Sampling, TextPart
from tests.unit.fake_engine import FakeEngine


def conversation(words: str) -> Conversation:
    """One message."""
    return Conversation((Message("user", (TextPart(words),)),), Sampling(temperature=0.0, max_tokens=5))


def test_tokens_of_all_answers_add_up() -> None:
    fake = FakeEngine()
    counted = CountedEngine(fake)
    completions = [
        completion
        for words in (["one"], ["two", "three"])
        for completion in counted.generate([conversation(word) for word in words], Control())
    ]
    assert len(completions) == 3
    assert counted.prompt_tokens == sum(completion.prompt_tokens for completion in completions) > 0
    assert counted.completion_tokens == sum(completion.completion_tokens for completion in completions) > 0


def test_generation_that_was_cancelled_counts_nothing() -> None:
    counted = CountedEngine(FakeEngine())
    control = Control()
    control.cancellation.set()
    with pytest.raises(GenerationCancelled):
        counted.generate([conversation("one")], control)
    assert (counted.prompt_tokens, counted.completion_tokens) == (0, 0)


def test_everything_else_is_the_engines_own() -> None:
    fake = FakeEngine(can_offload=True)
    counted: Engine = CountedEngine(fake)
    counted.load()
    counted.offload()
    assert counted.status() == fake.status()
    assert counted.status().state is EngineState.OFFLOADED
    assert counted.process_ids() == fake.process_ids()
    counted.release()
    counted.close()
    assert (fake.n_loads, fake.released, fake.closed) == (1, True, True)
