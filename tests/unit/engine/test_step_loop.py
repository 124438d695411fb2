"""How a generation goes, ends early, and leaves nothing behind, on a stand-in for vLLM."""

import queue
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from engine.adapters import Adapters
from engine.errors import GenerationCancelled, GenerationFailed, InvalidGeneration, PromptTooLong
from engine.interface import (
    Control,
    Conversation,
    FinishReason,
    Message,
    ResponseFormat,
    Sampling,
    TextPart,
    TokenLogprob,
    ToolCall,
)
from engine.parsers import Output, OutputParsers, PlainReader
from engine.rendering import Renderer, TokenBreaker
from engine.schema_bounds import bounded
from engine.shared_steps import EngineBroken
from engine.step_loop import StepLoop
from tests.unit.engine.fake_llm import FakeLLM, OutputKind


class MultiModalCacheMissError(Exception):
    pass


class EngineDeadError(Exception):
    pass


class Panic(BaseException):
    """As pyo3 raises it for a Rust library: no `Exception`."""


@pytest.fixture(autouse=True)
def _vllm_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(SamplingParams=SimpleNamespace))
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", SimpleNamespace(RequestOutputKind=OutputKind))


def loop(
    llm: FakeLLM, plain_template: str | None = None, plain_stop: tuple[str, ...] = (), own_thread: bool = False
) -> StepLoop:
    renderer = Renderer("model", supports_images=False, max_images=0, break_tokens=TokenBreaker(()))
    parsers = OutputParsers(llm)
    return StepLoop(llm, renderer, Adapters({}), parsers, plain_template, plain_stop, own_thread=own_thread)


def ask(text: str, max_tokens: int = 3, stop: tuple[str, ...] = ()) -> Conversation:
    return Conversation((Message("user", (TextPart(text),)),), Sampling(0.0, max_tokens, stop=stop))


def after(n_steps: int, llm: FakeLLM) -> Callable[[], bool]:
    return lambda: llm.steps >= n_steps


def test_completions_come_in_the_order_asked() -> None:
    completions = loop(FakeLLM()).run([ask("x", 3), ask("yy", 1), ask("zzz", 2)], Control())
    assert [(done.text, done.prompt_tokens, done.completion_tokens) for done in completions] == [
        ("abc", 1, 3),
        ("a", 2, 1),
        ("ab", 3, 2),
    ]
    assert {done.finish_reason for done in completions} == {FinishReason.LENGTH}
    assert all(done.first_token_ms is not None for done in completions)


def test_new_text_is_told_as_it_comes_and_adds_up() -> None:
    told: list[tuple[int, str, int]] = []
    completions = loop(FakeLLM()).run([ask("x", 2), ask("y", 3)], Control(on_text=lambda *new: told.append(new)))
    assert told == [(0, "a", 1), (1, "a", 1), (0, "b", 2), (1, "b", 2), (1, "c", 3)]
    assert [done.text for done in completions] == ["ab", "abc"]


def test_whole_answers_are_asked_for_when_nobody_listens() -> None:
    llm = FakeLLM()
    kinds: list[OutputKind] = []
    llm.on_step = lambda step: kinds.extend(request.params.output_kind for request in llm.running.values())
    loop(llm).run([ask("x", 1)], Control(deadline_s=time.monotonic() + 60))
    assert kinds == [OutputKind.FINAL_ONLY]


def test_cancelling_leaves_the_engine_idle() -> None:
    llm = FakeLLM()
    with pytest.raises(GenerationCancelled):
        loop(llm).run([ask("x", 50), ask("y", 50)], Control(cancelled=after(2, llm)))
    assert llm.steps == 2
    assert not llm.running


def test_a_cancelled_call_adds_nothing() -> None:
    llm = FakeLLM()
    with pytest.raises(GenerationCancelled):
        loop(llm).run([ask("x")], Control(cancelled=lambda: True))
    assert llm.added == 0


def test_conversations_are_taken_one_by_one_and_each_is_added_before_the_next_is_asked_for() -> None:
    llm = FakeLLM()
    added_before = []

    def conversations() -> Iterator[Conversation]:
        for text in "xyz":
            added_before.append(llm.added)
            yield ask(text)

    assert [done.text for done in loop(llm).run(conversations(), Control())] == ["abc"] * 3
    assert added_before == [0, 1, 2]


def test_conversations_that_break_off_leave_the_engine_idle() -> None:
    llm = FakeLLM()

    def conversations() -> Iterator[Conversation]:
        yield ask("x", 50)
        raise GenerationCancelled

    with pytest.raises(GenerationCancelled):
        loop(llm).run(conversations(), Control())
    assert (llm.added, llm.steps) == (1, 0)
    assert not llm.running


@pytest.mark.parametrize("listening", [True, False])
def test_the_deadline_ends_with_the_text_so_far(listening: bool) -> None:
    llm = FakeLLM(on_step=lambda step: time.sleep(0.2) if step == 3 else None)
    told: list[str] = []
    control = Control(
        deadline_s=time.monotonic() + 0.1, on_text=(lambda index, text, n: told.append(text)) if listening else None
    )
    done, partial = loop(llm).run([ask("x", 2), ask("y", 50)], control)
    assert (done.text, done.finish_reason) == ("ab", FinishReason.LENGTH)
    assert (partial.text, partial.finish_reason, partial.completion_tokens) == ("abc", FinishReason.TIMEOUT, 3)
    assert "".join(told) == ("aabbc" if listening else "")
    assert not llm.running


def test_a_deadline_that_is_over_answers_at_once() -> None:
    (completion,) = loop(FakeLLM()).run([ask("x")], Control(deadline_s=time.monotonic() - 1))
    assert (completion.text, completion.finish_reason) == ("", FinishReason.TIMEOUT)


def test_the_deadline_also_ends_a_long_adding(monkeypatch: pytest.MonkeyPatch) -> None:
    llm = FakeLLM()
    really_enqueue = llm.enqueue_chat

    def enqueue_slowly(*args: Any, **options: Any) -> None:
        time.sleep(0.06)
        really_enqueue(*args, **options)

    monkeypatch.setattr(llm, "enqueue_chat", enqueue_slowly)
    completions = loop(llm).run([ask("x")] * 50, Control(deadline_s=time.monotonic() + 0.1))
    assert len(completions) == 50
    assert llm.added < 10
    assert {done.finish_reason for done in completions} == {FinishReason.TIMEOUT}
    assert not llm.running


def test_without_readable_states_a_deadline_listens() -> None:
    llm = FakeLLM()
    llm.output_processor = SimpleNamespace()
    assert loop(llm).output_kind(Control(deadline_s=1.0)) is OutputKind.DELTA
    assert loop(llm).output_kind(Control()) is OutputKind.FINAL_ONLY


def test_one_refused_conversation_of_a_batch_does_not_stop_the_others() -> None:
    llm = FakeLLM(refusals={"bad": [ValueError("no such parameter (parameter=x, value=1)")]})
    first, refused, last = loop(llm).run([ask("x"), ask("bad"), ask("y")], Control())
    assert (first.text, last.text) == ("abc", "abc")
    assert (refused.text, refused.error) == ("", "no such parameter.")


def test_a_single_refused_conversation_raises() -> None:
    llm = FakeLLM(refusals={"bad": [ValueError("no")]})
    with pytest.raises(InvalidGeneration, match="no"):
        loop(llm).run([ask("bad")], Control())


def test_a_too_long_prompt_tells_both_lengths() -> None:
    text = "x" * 150
    llm = FakeLLM(refusals={text: [ValueError("This model's maximum context length is 100 tokens")]})
    with pytest.raises(PromptTooLong) as caught:
        loop(llm).run([ask(text)], Control())
    assert (caught.value.prompt_tokens, caught.value.max_model_len) == (150, 100)


def test_a_cache_miss_is_tried_again() -> None:
    llm = FakeLLM(refusals={"x": [MultiModalCacheMissError()]})
    assert loop(llm).run([ask("x")], Control())[0].text == "abc"


def test_a_request_that_the_engine_gave_up_is_tried_once_more() -> None:
    assert loop(FakeLLM(give_up=["x"])).run([ask("x")], Control())[0].text == "abc"
    with pytest.raises(GenerationFailed):
        loop(FakeLLM(give_up=["x", "x"])).run([ask("x")], Control())


def test_a_broken_step_is_told_apart_and_cleaned_up() -> None:
    def breaks(step: int) -> None:
        raise RuntimeError("inside the model")

    llm = FakeLLM(on_step=breaks)
    with pytest.raises(EngineBroken):
        loop(llm).run([ask("x")], Control())
    assert not llm.running


@pytest.mark.parametrize("raised", [Panic("a library's own end"), SystemExit(2)])
def test_a_library_that_panics_or_exits_breaks_the_engine_and_not_the_thread(raised: BaseException) -> None:
    def panics(step: int) -> None:
        raise raised

    for llm in (FakeLLM(on_step=panics), FakeLLM(refusals={"x": [raised]})):
        stepped = loop(llm)
        with pytest.raises(EngineBroken) as caught:
            stepped.run([ask("y"), ask("x")], Control())
        assert stepped.broken is raised
        assert caught.value.__cause__ is raised
        assert not llm.running


def test_an_engine_that_is_gone_is_broken_also_for_a_batch() -> None:
    llm = FakeLLM(refusals={"x": [EngineDeadError()]})
    with pytest.raises(EngineBroken):
        loop(llm).run([ask("x"), ask("y")], Control())


def test_a_listener_that_raises_does_not_break_the_engine() -> None:
    def hangs_up(index: int, text: str, completion_tokens: int) -> None:
        raise ConnectionError

    llm = FakeLLM()
    with pytest.raises(ConnectionError):
        loop(llm).run([ask("x"), ask("y")], Control(on_text=hangs_up))
    assert not llm.running


def test_a_model_without_a_template_gets_ours_and_its_stop() -> None:
    stops: list[list[str]] = []
    llm = FakeLLM()
    llm.on_step = lambda step: stops.extend(request.params.stop for request in llm.running.values())
    loop(llm, "TEMPLATE", ("\nuser:",)).run([ask("x", 1, stop=("END",))], Control())
    assert llm.templates == ["TEMPLATE"]
    assert stops == [["END", "\nuser:"]]


def silent_core(dead: bool) -> SimpleNamespace:
    return SimpleNamespace(outputs_queue=queue.Queue(), resources=SimpleNamespace(engine_dead=dead))


def test_a_dead_core_in_another_process_is_not_waited_for() -> None:
    llm = FakeLLM()
    llm.engine_core = silent_core(dead=True)
    with pytest.raises(EngineBroken):
        loop(llm).run([ask("x")], Control())


def test_a_busy_core_in_another_process_does_not_hold_up_the_deadline() -> None:
    llm = FakeLLM()
    llm.engine_core = silent_core(dead=False)
    (completion,) = loop(llm).run([ask("x")], Control(deadline_s=time.monotonic() + 0.05))
    assert completion.finish_reason is FinishReason.TIMEOUT
    assert llm.steps == 0


def told(letter: str, n_top: int) -> TokenLogprob:
    return TokenLogprob(letter, -2.0, (TokenLogprob("-", -0.5), TokenLogprob(letter, -2.0))[:n_top])


@pytest.mark.parametrize("n_top", [0, 1, 2, 20])
@pytest.mark.parametrize("listening", [True, False])
def test_log_probabilities_are_one_for_each_token(listening: bool, n_top: int) -> None:
    asked = Conversation((Message("user", (TextPart("x"),)),), Sampling(0.0, 3, logprobs=n_top))
    control = Control(on_text=(lambda index, text, n: None) if listening else None)
    with_logprobs, without = loop(FakeLLM()).run([asked, ask("y")], control)
    assert with_logprobs.logprobs == tuple(told(letter, n_top) for letter in "abc")
    assert without.logprobs is None


@pytest.mark.parametrize("listening", [True, False])
def test_log_probabilities_at_the_deadline_are_those_of_the_text_so_far(listening: bool) -> None:
    llm = FakeLLM(on_step=lambda step: time.sleep(0.2) if step == 3 else None)
    asked = Conversation((Message("user", (TextPart("x"),)),), Sampling(0.0, 50, logprobs=1))
    control = Control(deadline_s=time.monotonic() + 0.1, on_text=(lambda index, text, n: None) if listening else None)
    (partial,) = loop(llm).run([asked], control)
    assert partial.finish_reason is FinishReason.TIMEOUT
    assert partial.logprobs == tuple(told(letter, 1) for letter in "abc")


def test_the_form_of_an_answer_reaches_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    names = SimpleNamespace(RequestOutputKind=OutputKind, StructuredOutputsParams=dict)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", names)
    llm = FakeLLM()
    seen: list[Any] = []
    llm.on_step = lambda step: seen.extend(request.params.structured_outputs for request in llm.running.values())
    question = (Message("user", (TextPart("x"),)),)
    asked = [Conversation(question, Sampling(0.0, 1), form) for form in (ResponseFormat(), ResponseFormat({}), None)]
    loop(llm).run(asked, Control())
    assert seen == [{"json": bounded({"type": "object"})}, {"json": bounded({})}, None]


class Shouting(PlainReader):
    """A reader that keeps a thought in brackets back, and tells the answer in capital letters at once or at its end."""

    def __init__(self, streams: bool) -> None:
        self._streams = streams
        self.heard: list[int] = []

    def constrain(self, params: Any) -> None:
        params.skip_special_tokens = False

    def new_answer_text(self, text: str, token_ids: Sequence[int], prompt_token_ids: Sequence[int]) -> str:
        self.heard += token_ids
        return text.upper() if self._streams and text > "a" else ""

    def read(self, text: str, token_ids: Sequence[int], prompt_token_ids: Sequence[int]) -> Output:
        assert len(token_ids) == len(text)
        return Output(text[1:].upper(), reasoning=text[:1], tool_calls=(ToolCall("1", "f", "{}"),) * (len(text) > 3))


@pytest.mark.parametrize(
    ("parts", "told", "answer", "cut_off"),
    [
        ([" ", " Par", "is", " "], "Paris ", "Paris ", "Paris "),
        (["Paris"], "Paris", "Paris", "Paris"),
        (["  "], "", "", ""),
        (["\n x"], "\n x", "\n x", "\n x"),
        ([" a\n", "us", "er"], "a", "a\nuser", "a"),
        ([" a\nAss", "ess: b\nTOO"], "a\nAssess: b", "a\nAssess: b\nTOO", "a\nAssess: b"),
        (["a\nUser b"], "a\nUser b", "a\nUser b", "a\nUser b"),
    ],
)
def test_a_base_models_answer_has_neither_the_space_behind_a_label_nor_half_of_the_next(
    parts: list[str], told: str, answer: str, cut_off: str
) -> None:
    reader = OutputParsers(FakeLLM(), writes_lines=True).reader(ask("x"))
    assert "".join(reader.new_answer_text(part, (), ()) for part in parts) == told
    whole = "".join(parts)
    assert reader.read(whole, (), ()).text == answer
    assert reader.read(reader.whole(whole), (), ()).text == cut_off


def parsing_loop(llm: FakeLLM, streams: bool = True) -> tuple[StepLoop, list[Shouting]]:
    readers: list[Shouting] = []

    def reader(conversation: Conversation) -> Shouting:
        readers.append(Shouting(streams))
        return readers[-1]

    parsers = SimpleNamespace(reader=reader, chat_options=lambda conversation, tools: {"tools": tools})
    stepped = loop(llm)
    stepped._parsers = cast(OutputParsers, parsers)
    return stepped, readers


@pytest.mark.parametrize("streams", [True, False])
def test_what_a_reader_keeps_back_is_told_at_the_end(streams: bool) -> None:
    told: list[tuple[str, int]] = []
    stepped, readers = parsing_loop(FakeLLM(), streams)
    control = Control(on_text=lambda index, text, n: told.append((text, n)))
    (completion,) = stepped.run([ask("x", 3)], control)
    assert (completion.text, completion.reasoning, completion.finish_reason) == ("BC", "a", FinishReason.LENGTH)
    assert told == ([("", 1), ("B", 2), ("C", 3)] if streams else [("", 1), ("", 2), ("", 3), ("BC", 3)])
    assert len(readers[0].heard) == 3


@pytest.mark.parametrize("listening", [True, False])
def test_calls_are_the_reason_why_a_completion_ended(listening: bool) -> None:
    control = Control(on_text=(lambda index, text, n: None) if listening else None)
    (completion,) = parsing_loop(FakeLLM())[0].run([ask("x", 4)], control)
    assert completion.finish_reason is FinishReason.TOOL_CALLS
    assert (completion.tool_calls[0].name, completion.completion_tokens) == ("f", 4)


def test_a_deadline_reads_what_there_is() -> None:
    llm = FakeLLM(on_step=lambda step: time.sleep(0.2) if step == 3 else None)
    control = Control(deadline_s=time.monotonic() + 0.1)
    (completion,) = parsing_loop(llm)[0].run([ask("x", 50)], control)
    assert (completion.text, completion.reasoning, completion.completion_tokens) == ("BC", "a", 3)
    assert completion.finish_reason is FinishReason.TIMEOUT


class PanicException(BaseException):
    """What the bindings of Rust raise when that panics."""


BEYOND_EXCEPTION = [PanicException, SystemExit, KeyboardInterrupt, GeneratorExit]


@pytest.mark.parametrize("own_thread", [False, True])
@pytest.mark.parametrize("kind", BEYOND_EXCEPTION)
def test_whatever_a_library_throws_in_a_step_the_engine_is_broken_for_all(
    kind: type[BaseException], own_thread: bool
) -> None:
    llm = FakeLLM()

    def throw(step: int) -> None:
        if step == 2:
            raise kind

    llm.on_step = throw
    steps = loop(llm, own_thread=own_thread)
    with pytest.raises(EngineBroken) as caught:
        steps.run([ask("x", 50)], Control())
    assert isinstance(caught.value.__cause__, kind)
    assert isinstance(steps.broken, kind)
    with pytest.raises(EngineBroken):
        steps.run([ask("y")], Control())
    steps.steps.end()


@pytest.mark.parametrize("kind", BEYOND_EXCEPTION)
def test_whatever_a_library_throws_when_a_request_is_added_the_engine_may_be_broken(kind: type[BaseException]) -> None:
    llm = FakeLLM(refusals={"bad": [kind()]})
    steps = loop(llm)
    with pytest.raises(EngineBroken):
        steps.run([ask("good"), ask("bad")], Control())
    assert not llm.running
    assert isinstance(steps.broken, kind)


@pytest.mark.parametrize("kind", BEYOND_EXCEPTION)
def test_an_engine_that_cannot_be_told_to_stop_is_broken_where_that_may_have_changed_it(
    kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = FakeLLM()

    def abort(ids: list[str], internal: bool) -> None:
        raise kind

    monkeypatch.setattr(llm, "abort_request", abort)
    steps = loop(llm)
    with pytest.raises(GenerationCancelled):
        steps.run([ask("x", 50)], Control(cancelled=after(2, llm)))
    assert isinstance(steps.broken, kind)
