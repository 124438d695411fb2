"""How a batch goes, ends early, and leaves nothing behind, on a fake of vLLM."""

import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import GenerationCancelled
from engine.interface import (
    Control,
    Conversation,
    FinishReason,
    Message,
    ResponseFormat,
    Sampling,
    TextPart,
)
from engine.local.adapter import EngineAdapter
from engine.schemas.bounds import bounded
from sandbox.cancellation import Cancellation
from tests.unit.engine.fake_llm import SHORT_S, FakeLLM, OutputKind, ask, cancelled_after, make_scheduler, over_in_step

pytestmark = pytest.mark.usefixtures("stand_in_for_vllm")


def test_completions_come_in_the_order_asked() -> None:
    completions = make_scheduler(FakeLLM()).generate([ask("x", 3), ask("yy", 1), ask("zzz", 2)], Control())
    assert [(done.text, done.prompt_tokens, done.completion_tokens) for done in completions] == [
        ("abc", 1, 3),
        ("a", 2, 1),
        ("ab", 3, 2),
    ]
    assert {done.finish_reason for done in completions} == {FinishReason.LENGTH}
    assert all(done.first_token_ms is not None for done in completions)


def test_new_text_is_told_as_it_comes_and_adds_up() -> None:
    told: list[tuple[int, str, int]] = []
    completions = make_scheduler(FakeLLM()).generate(
        [ask("x", 2), ask("y", 3)], Control(on_text=lambda *new: told.append(new))
    )
    assert told == [(0, "a", 1), (1, "a", 1), (0, "b", 2), (1, "b", 2), (1, "c", 3)]
    assert [done.text for done in completions] == ["ab", "abc"]


def test_whole_answers_are_asked_for_when_nobody_listens() -> None:
    llm = FakeLLM()
    kinds: list[OutputKind] = []
    llm.on_step = lambda step: kinds.extend(request.params.output_kind for request in llm.running.values())
    make_scheduler(llm).generate([ask("x", 1)], Control(deadline_s=time.monotonic() + 60))
    assert kinds == [OutputKind.FINAL_ONLY]


def test_cancelling_leaves_the_engine_idle() -> None:
    llm = FakeLLM()
    with pytest.raises(GenerationCancelled):
        make_scheduler(llm).generate([ask("x", 50), ask("y", 50)], cancelled_after(2, llm))
    assert llm.steps == 2
    assert not llm.running


def test_a_cancelled_call_adds_nothing() -> None:
    llm = FakeLLM()
    cancellation = Cancellation()
    cancellation.set()
    with pytest.raises(GenerationCancelled):
        make_scheduler(llm).generate([ask("x")], Control(cancellation=cancellation))
    assert llm.added == 0


def test_conversations_are_taken_one_by_one_and_each_is_added_before_the_next_is_asked_for() -> None:
    llm = FakeLLM()
    added_before = []

    def conversations() -> Iterator[Conversation]:
        for text in "xyz":
            added_before.append(llm.added)
            yield ask(text)

    assert [done.text for done in make_scheduler(llm).generate(conversations(), Control())] == ["abc"] * 3
    assert added_before == [0, 1, 2]


def test_conversations_that_break_off_leave_the_engine_idle() -> None:
    llm = FakeLLM()

    def conversations() -> Iterator[Conversation]:
        yield ask("x", 50)
        raise GenerationCancelled

    with pytest.raises(GenerationCancelled):
        make_scheduler(llm).generate(conversations(), Control())
    assert (llm.added, llm.steps) == (1, 0)
    assert not llm.running


@pytest.mark.parametrize("listening", [True, False])
def test_the_deadline_ends_with_the_text_so_far(listening: bool) -> None:
    deadline_s = time.monotonic() + SHORT_S
    llm = FakeLLM(on_step=over_in_step(3, deadline_s))
    told: list[str] = []
    control = Control(deadline_s=deadline_s, on_text=(lambda index, text, n: told.append(text)) if listening else None)
    done, partial = make_scheduler(llm).generate([ask("x", 2), ask("y", 50)], control)
    assert (done.text, done.finish_reason) == ("ab", FinishReason.LENGTH)
    assert (partial.text, partial.finish_reason, partial.completion_tokens) == ("abc", FinishReason.TIMEOUT, 3)
    assert "".join(told) == ("aabbc" if listening else "")
    assert not llm.running


def test_a_deadline_that_is_over_answers_at_once() -> None:
    (completion,) = make_scheduler(FakeLLM()).generate([ask("x")], Control(deadline_s=time.monotonic() - 1))
    assert (completion.text, completion.finish_reason) == ("", FinishReason.TIMEOUT)


def test_the_deadline_also_ends_a_long_adding(monkeypatch: pytest.MonkeyPatch) -> None:
    llm = FakeLLM()
    really_enqueue = llm.enqueue_chat

    def enqueue_slowly(*args: Any, **options: Any) -> None:
        time.sleep(0.06)
        really_enqueue(*args, **options)

    monkeypatch.setattr(llm, "enqueue_chat", enqueue_slowly)
    completions = make_scheduler(llm).generate([ask("x")] * 50, Control(deadline_s=time.monotonic() + 0.1))
    assert len(completions) == 50
    assert llm.added < 10
    assert {done.finish_reason for done in completions} == {FinishReason.TIMEOUT}
    assert not llm.running


def test_without_readable_states_a_deadline_listens() -> None:
    llm = FakeLLM()
    llm.output_processor = SimpleNamespace()
    assert EngineAdapter(llm).output_kind(Control(deadline_s=1.0)) is OutputKind.DELTA
    assert EngineAdapter(llm).output_kind(Control()) is OutputKind.FINAL_ONLY


def test_a_model_without_a_template_gets_ours_and_its_stop() -> None:
    stops: list[list[str]] = []
    llm = FakeLLM()
    llm.on_step = lambda step: stops.extend(request.params.stop for request in llm.running.values())
    make_scheduler(llm, "TEMPLATE", ("\nuser:",)).generate([ask("x", 1, stop=("END",))], Control())
    assert llm.templates == ["TEMPLATE"]
    assert stops == [["END", "\nuser:"]]


def test_the_form_of_an_answer_reaches_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    names = SimpleNamespace(RequestOutputKind=OutputKind, StructuredOutputsParams=dict)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", names)
    llm = FakeLLM()
    seen: list[Any] = []
    llm.on_step = lambda step: seen.extend(request.params.structured_outputs for request in llm.running.values())
    question = (Message("user", (TextPart("x"),)),)
    asked = [Conversation(question, Sampling(0.0, 1), form) for form in (ResponseFormat(), ResponseFormat({}), None)]
    make_scheduler(llm).generate(asked, Control())
    assert seen == [{"json": bounded({"type": "object"})}, {"json": bounded({})}, None]
