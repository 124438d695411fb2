"""What the scheduler does when vLLM rejects a request, raises, panics or dies."""

import queue
import time
from types import SimpleNamespace

import pytest

from engine.errors import GenerationCancelled, GenerationFailed, InvalidGeneration, PromptTooLong
from engine.interface import (
    Control,
    FinishReason,
)
from engine.local.adapter import EngineBroken
from tests.unit.engine.fake_llm import FakeLLM, ask, cancelled_after, make_scheduler

pytestmark = pytest.mark.usefixtures("stand_in_for_vllm")


class MultiModalCacheMissError(Exception):
    pass


class EngineDeadError(Exception):
    pass


class Panic(BaseException):
    """As pyo3 raises it for a Rust library: no `Exception`."""


def test_one_refused_conversation_of_a_batch_does_not_stop_the_others() -> None:
    llm = FakeLLM(refusals={"bad": [ValueError("no such parameter (parameter=x, value=1)")]})
    first, refused, last = make_scheduler(llm).generate([ask("x"), ask("bad"), ask("y")], Control())
    assert (first.text, last.text) == ("abc", "abc")
    assert (refused.text, refused.error) == ("", "no such parameter.")


def test_a_single_refused_conversation_raises() -> None:
    llm = FakeLLM(refusals={"bad": [ValueError("no")]})
    with pytest.raises(InvalidGeneration, match="no"):
        make_scheduler(llm).generate([ask("bad")], Control())


def test_a_too_long_prompt_tells_both_lengths() -> None:
    text = "x" * 150
    llm = FakeLLM(refusals={text: [ValueError("This model's maximum context length is 100 tokens")]})
    with pytest.raises(PromptTooLong) as caught:
        make_scheduler(llm).generate([ask(text)], Control())
    assert (caught.value.prompt_tokens, caught.value.max_model_len) == (150, 100)


def test_a_cache_miss_is_tried_again() -> None:
    llm = FakeLLM(refusals={"x": [MultiModalCacheMissError()]})
    assert make_scheduler(llm).generate([ask("x")], Control())[0].text == "abc"


def test_a_request_that_the_engine_gave_up_is_tried_once_more() -> None:
    assert make_scheduler(FakeLLM(give_up=["x"])).generate([ask("x")], Control())[0].text == "abc"
    with pytest.raises(GenerationFailed):
        make_scheduler(FakeLLM(give_up=["x", "x"])).generate([ask("x")], Control())


def test_a_broken_step_is_told_apart_and_cleaned_up() -> None:
    def breaks(step: int) -> None:
        raise RuntimeError("inside the model")

    llm = FakeLLM(on_step=breaks)
    with pytest.raises(EngineBroken):
        make_scheduler(llm).generate([ask("x")], Control())
    assert not llm.running


@pytest.mark.parametrize("raised", [Panic("a library's own end"), SystemExit(2)])
def test_a_library_that_panics_or_exits_breaks_the_engine_and_not_the_thread(raised: BaseException) -> None:
    def panics(step: int) -> None:
        raise raised

    for llm in (FakeLLM(on_step=panics), FakeLLM(refusals={"x": [raised]})):
        scheduler = make_scheduler(llm)
        with pytest.raises(EngineBroken) as caught:
            scheduler.generate([ask("y"), ask("x")], Control())
        assert scheduler.broken is raised
        assert caught.value.__cause__ is raised
        assert not llm.running


def test_an_engine_that_is_gone_is_broken_also_for_a_batch() -> None:
    llm = FakeLLM(refusals={"x": [EngineDeadError()]})
    with pytest.raises(EngineBroken):
        make_scheduler(llm).generate([ask("x"), ask("y")], Control())


def test_a_listener_that_raises_does_not_break_the_engine() -> None:
    def hangs_up(index: int, text: str, completion_tokens: int) -> None:
        raise ConnectionError

    llm = FakeLLM()
    with pytest.raises(ConnectionError):
        make_scheduler(llm).generate([ask("x"), ask("y")], Control(on_text=hangs_up))
    assert not llm.running


def silent_core(dead: bool) -> SimpleNamespace:
    return SimpleNamespace(outputs_queue=queue.Queue(), resources=SimpleNamespace(engine_dead=dead))


def test_a_dead_core_in_another_process_is_not_waited_for() -> None:
    llm = FakeLLM()
    llm.engine_core = silent_core(dead=True)
    with pytest.raises(EngineBroken):
        make_scheduler(llm).generate([ask("x")], Control())


def test_a_busy_core_in_another_process_does_not_hold_up_the_deadline() -> None:
    llm = FakeLLM()
    llm.engine_core = silent_core(dead=False)
    (completion,) = make_scheduler(llm).generate([ask("x")], Control(deadline_s=time.monotonic() + 0.05))
    assert completion.finish_reason is FinishReason.TIMEOUT
    assert llm.steps == 0


class PanicException(BaseException):
    """What the bindings of Rust raise when that panics."""


BEYOND_EXCEPTION = [PanicException, SystemExit, KeyboardInterrupt, GeneratorExit]


@pytest.mark.parametrize("has_thread", [False, True])
@pytest.mark.parametrize("kind", BEYOND_EXCEPTION)
def test_whatever_a_library_throws_in_a_step_the_engine_is_broken_for_all(
    kind: type[BaseException], has_thread: bool
) -> None:
    llm = FakeLLM()

    def throw(step: int) -> None:
        if step == 2:
            raise kind

    llm.on_step = throw
    scheduler = make_scheduler(llm, has_thread=has_thread)
    with pytest.raises(EngineBroken) as caught:
        scheduler.generate([ask("x", 50)], Control())
    assert isinstance(caught.value.__cause__, kind)
    assert isinstance(scheduler.broken, kind)
    with pytest.raises(EngineBroken):
        scheduler.generate([ask("y")], Control())
    scheduler.close()


@pytest.mark.parametrize("kind", BEYOND_EXCEPTION)
def test_whatever_a_library_throws_when_a_request_is_added_the_engine_may_be_broken(kind: type[BaseException]) -> None:
    llm = FakeLLM(refusals={"bad": [kind()]})
    scheduler = make_scheduler(llm)
    with pytest.raises(EngineBroken):
        scheduler.generate([ask("good"), ask("bad")], Control())
    assert not llm.running
    assert isinstance(scheduler.broken, kind)


@pytest.mark.parametrize("kind", BEYOND_EXCEPTION)
def test_an_engine_that_cannot_be_told_to_stop_is_broken_where_that_may_have_changed_it(
    kind: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = FakeLLM()

    def abort(ids: list[str], internal: bool) -> None:
        raise kind

    monkeypatch.setattr(llm, "abort_request", abort)
    scheduler = make_scheduler(llm)
    with pytest.raises(GenerationCancelled):
        scheduler.generate([ask("x", 50)], cancelled_after(2, llm))
    assert isinstance(scheduler.broken, kind)
