"""Answers of the remote engine: streamed, put together, stopped, and many at once."""

from __future__ import annotations

import json
import threading
import time
from queue import Queue
from typing import Any

import pytest

from engine.errors import GenerationCancelled
from engine.interface import Control, FinishReason, ToolCall
from engine.remote.engine import RemoteEngine
from sandbox.cancellation import Cancellation
from tests.scripted_openai import ScriptedOpenAI, cut_up, drips, goes_on, piece, refuses, said, streams, usage
from tests.unit.engine.remote.samples import TOO_LONG, TOOL, answer, asked, call_piece

pytestmark = pytest.mark.slow

WAIT_S = 60.0


def test_answer_is_streamed_and_counted(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    told: list[tuple[int, str, int]] = []
    server.script(streams(*said("one", "two", "three")[:-2], usage(9, 3, cached_tokens=4), "[DONE]"))
    completion = answer(engine, Control(on_text=lambda *step: told.append(step)))
    assert completion.text == "one two three"
    assert completion.finish_reason is FinishReason.STOP
    assert (completion.prompt_tokens, completion.completion_tokens, completion.cached_tokens) == (9, 3, 4)
    assert told == [(0, "one", 1), (0, " two", 2), (0, " three", 3)]
    assert completion.first_token_ms is not None


def test_connection_that_stays_open_after_the_answer_is_not_waited_for(
    server: ScriptedOpenAI, engine: RemoteEngine
) -> None:
    released, was_released = threading.Event(), Queue[bool]()

    def stay(request: Any, fields: Any) -> None:
        streams(*said("one"))(request, fields)
        was_released.put(released.wait(WAIT_S))

    server.script(stay)
    assert answer(engine).text == "one"
    released.set()
    assert was_released.get(timeout=WAIT_S)


@pytest.mark.parametrize("at", [1, 3, 7])
def test_stream_may_be_cut_anywhere(server: ScriptedOpenAI, engine: RemoteEngine, at: int) -> None:
    text = "Grüße, 你好 👋🏽"
    events = [piece(content=text), piece("stop"), usage()]
    lines = [f"data: {json.dumps(event, ensure_ascii=False)}\r\n\r\n" for event in events]
    server.script(cut_up("".join([": ping\r\n\r\n", *lines, "data: [DONE]\r\n\r\n"]).encode(), at))
    assert answer(engine).text == text


def test_reasoning_is_kept_apart_under_either_name(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    told: list[str] = []
    for first, second in (
        (piece(reasoning="let me "), piece(reasoning="see")),
        (piece(reasoning_content="let me "), piece(reasoning_content="see")),
    ):
        server.script(streams(first, second, piece(content="4"), piece("stop")))
        completion = answer(engine, Control(on_text=lambda index, text, n: told.append(text)))
        assert (completion.text, completion.reasoning) == ("4", "let me see")
    assert told == ["", "", "4"] * 2


def test_tool_calls_come_in_pieces(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    server.script(
        streams(
            call_piece(0, "", id="call_a", name="weather"),
            call_piece(0, '{"city": "Pa'),
            call_piece(0, 'ris"}'),
            call_piece(1, '{"city": ', id="call_b", name="weather"),
            call_piece(1, '"Oslo"}'),
            piece("tool_calls"),
            usage(),
            "[DONE]",
        )
    )
    completion = answer(engine, tools=(TOOL,))
    assert completion.finish_reason is FinishReason.TOOL_CALLS
    assert completion.tool_calls == (
        ToolCall("call_a", "weather", '{"city": "Paris"}'),
        ToolCall("call_b", "weather", '{"city": "Oslo"}'),
    )
    assert completion.text == ""


@pytest.mark.parametrize(
    "pieces",
    [
        [call_piece(0, '{"city": "Pa', id="a", name="weather"), piece("length")],
        [call_piece(0, '{"city": "Pa', id="a", name="no_such_function"), piece("tool_calls")],
        [call_piece(0, '{"city": "Pa', id="a", name="weather"), piece("tool_calls")],
    ],
)
def test_call_that_nobody_could_make_is_text(
    server: ScriptedOpenAI, engine: RemoteEngine, pieces: list[dict[str, Any]]
) -> None:
    server.script(streams(*pieces))
    completion = answer(engine, tools=(TOOL,))
    assert (completion.text, completion.tool_calls) == ('{"city": "Pa', ())
    assert completion.finish_reason is not FinishReason.TOOL_CALLS


def test_cancelling_closes_the_connection(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    engine.load()
    closed, begun = threading.Event(), Cancellation()

    def wait(request: Any, fields: Any) -> None:
        request.begin()
        request.event(piece(content="on"))
        if request.is_hung_up_on():
            closed.set()

    server.script(wait)
    control = Control(cancellation=begun, on_text=lambda *step: begun.set())
    started_s = time.monotonic()
    with pytest.raises(GenerationCancelled):
        answer(engine, control)
    assert time.monotonic() - started_s < 4, "long before the server was silent for too long"
    assert closed.wait(5)


def test_deadline_answers_with_the_text_so_far(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    engine.load()
    server.script(goes_on)
    completion = answer(engine, Control(deadline_s=time.monotonic() + 1))
    assert completion.finish_reason is FinishReason.TIMEOUT
    assert completion.text.startswith("on on ")
    assert completion.completion_tokens == completion.text.count("on")


def test_deadline_while_nothing_comes(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    engine.load()
    server.script(drips)
    completion = answer(engine, Control(deadline_s=time.monotonic() + 0.1))
    assert (completion.finish_reason, completion.text) == (FinishReason.TIMEOUT, "")


def test_failing_conversation_of_a_batch_fails_alone(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    def picky(request: Any, fields: Any) -> None:
        bad = fields["messages"][-1]["content"] == "bad"
        (refuses(400, TOO_LONG) if bad else server.honest)(request, fields)

    server.script(picky)
    finished: list[int] = []
    texts = [f"number {n}" for n in range(50)]
    texts[20] = "bad"
    completions = engine.generate([asked(text) for text in texts], Control(on_finished=finished.append))
    assert [completion.text for completion in completions] == [text if text != "bad" else "" for text in texts]
    assert "too long" in (completions[20].error or "")
    assert sum(completion.error is not None for completion in completions) == 1
    assert sorted(finished) == list(range(50))


@pytest.mark.parametrize("arguments", ["", None, "null", "{}"])
def test_function_may_be_called_without_arguments(
    server: ScriptedOpenAI, engine: RemoteEngine, arguments: str | None
) -> None:
    server.script(streams(call_piece(0, arguments, id="call_a", name="weather"), piece("tool_calls")))
    assert answer(engine, tools=(TOOL,)).tool_calls == (ToolCall("call_a", "weather", "{}"),)
