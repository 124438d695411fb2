"""The output of one request: log-probabilities, and what its parser makes of the text."""

import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from engine.interface import (
    Control,
    Conversation,
    FinishReason,
    Message,
    Sampling,
    TextPart,
    TokenLogprob,
    ToolCall,
)
from engine.local.output_parsers import Output, OutputParsers, PlainOutputParser
from engine.local.scheduler import Scheduler
from tests.unit.engine.fake_llm import SHORT_S, FakeLLM, ask, make_scheduler, over_in_step

pytestmark = pytest.mark.usefixtures("stand_in_for_vllm")


def told(letter: str, n_top: int) -> TokenLogprob:
    return TokenLogprob(letter, -2.0, (TokenLogprob("-", -0.5), TokenLogprob(letter, -2.0))[:n_top])


@pytest.mark.parametrize("n_top", [0, 1, 2, 20])
@pytest.mark.parametrize("listening", [True, False])
def test_log_probabilities_are_one_for_each_token(listening: bool, n_top: int) -> None:
    asked = Conversation((Message("user", (TextPart("x"),)),), Sampling(0.0, 3, logprobs=n_top))
    control = Control(on_text=(lambda index, text, n: None) if listening else None)
    with_logprobs, without = make_scheduler(FakeLLM()).generate([asked, ask("y")], control)
    assert with_logprobs.logprobs == tuple(told(letter, n_top) for letter in "abc")
    assert without.logprobs is None


@pytest.mark.parametrize("listening", [True, False])
def test_log_probabilities_at_the_deadline_are_those_of_the_text_so_far(listening: bool) -> None:
    deadline_s = time.monotonic() + SHORT_S
    llm = FakeLLM(on_step=over_in_step(3, deadline_s))
    asked = Conversation((Message("user", (TextPart("x"),)),), Sampling(0.0, 50, logprobs=1))
    control = Control(deadline_s=deadline_s, on_text=(lambda index, text, n: None) if listening else None)
    (partial,) = make_scheduler(llm).generate([asked], control)
    assert partial.finish_reason is FinishReason.TIMEOUT
    assert partial.logprobs == tuple(told(letter, 1) for letter in "abc")


class Shouting(PlainOutputParser):
    """A parser that keeps a thought in brackets back, and tells the answer in capital letters at once or at its end."""

    def __init__(self, streams: bool) -> None:
        self._streams = streams
        self.heard: list[int] = []

    def constrain(self, params: Any) -> None:
        params.skip_special_tokens = False

    def new_answer_text(self, text: str, token_ids: Sequence[int], prompt_token_ids: Sequence[int]) -> str:
        self.heard += token_ids
        return text.upper() if self._streams and text > "a" else ""

    def parse(self, text: str, token_ids: Sequence[int], prompt_token_ids: Sequence[int]) -> Output:
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
    parser = OutputParsers(FakeLLM(), writes_lines=True).output_parser(ask("x"))
    assert "".join(parser.new_answer_text(part, (), ()) for part in parts) == told
    whole = "".join(parts)
    assert parser.parse(whole, (), ()).text == answer
    assert parser.parse(parser.cut_off(whole), (), ()).text == cut_off


def parsing_scheduler(llm: FakeLLM, streams: bool = True) -> tuple[Scheduler, list[Shouting]]:
    parsers_made: list[Shouting] = []

    def output_parser(conversation: Conversation) -> Shouting:
        parsers_made.append(Shouting(streams))
        return parsers_made[-1]

    parsers = SimpleNamespace(output_parser=output_parser, chat_options=lambda conversation, tools: {"tools": tools})
    return make_scheduler(llm, parsers=parsers), parsers_made


@pytest.mark.parametrize("streams", [True, False])
def test_what_a_reader_keeps_back_is_told_at_the_end(streams: bool) -> None:
    told: list[tuple[str, int]] = []
    scheduler, parsers_made = parsing_scheduler(FakeLLM(), streams)
    control = Control(on_text=lambda index, text, n: told.append((text, n)))
    (completion,) = scheduler.generate([ask("x", 3)], control)
    assert (completion.text, completion.reasoning, completion.finish_reason) == ("BC", "a", FinishReason.LENGTH)
    assert told == ([("", 1), ("B", 2), ("C", 3)] if streams else [("", 1), ("", 2), ("", 3), ("BC", 3)])
    assert len(parsers_made[0].heard) == 3


@pytest.mark.parametrize("listening", [True, False])
def test_calls_are_the_reason_why_a_completion_ended(listening: bool) -> None:
    control = Control(on_text=(lambda index, text, n: None) if listening else None)
    (completion,) = parsing_scheduler(FakeLLM())[0].generate([ask("x", 4)], control)
    assert completion.finish_reason is FinishReason.TOOL_CALLS
    assert (completion.tool_calls[0].name, completion.completion_tokens) == ("f", 4)


def test_a_deadline_reads_what_there_is() -> None:
    deadline_s = time.monotonic() + SHORT_S
    llm = FakeLLM(on_step=over_in_step(3, deadline_s))
    control = Control(deadline_s=deadline_s)
    (completion,) = parsing_scheduler(llm)[0].generate([ask("x", 50)], control)
    assert (completion.text, completion.reasoning, completion.completion_tokens) == ("BC", "a", 3)
    assert completion.finish_reason is FinishReason.TIMEOUT
