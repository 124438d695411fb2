"""The remote engine and a server that behaves as badly as servers can, or has too much to do."""

from __future__ import annotations

import email.utils
import time
from typing import Any

import pytest

from engine.errors import (
    EngineError,
    EngineUnavailable,
    GenerationCancelled,
    GenerationFailed,
    InvalidGeneration,
    PromptTooLong,
    ServerBusy,
)
from engine.interface import Control, EngineState, Sampling
from engine.remote.engine import RemoteEngine
from sandbox.cancellation import Cancellation
from tests.scripted_openai import (
    MODEL,
    MODELS,
    Route,
    ScriptedOpenAI,
    answers,
    cut_up,
    drips,
    floods,
    hangs_up,
    piece,
    refuses,
    streams,
)
from tests.unit.engine.remote.samples import KEY, TOO_LONG, answer, engine_for

pytestmark = pytest.mark.slow

NO_ROOM = (
    "This model's maximum context length is 2048 tokens. However, you requested 3000 tokens (1000 in the messages, "
    "2000 in the completion). Please reduce the length of the messages or completion."
)


def test_model_that_went_is_told_with_those_that_are_there(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    engine.load()
    server.models = ["other"]
    server.script(refuses(404, f"The model `{MODEL}` does not exist."))
    with pytest.raises(EngineUnavailable, match=f"has no model '{MODEL}'; it has other"):
        answer(engine)
    server.script(server.honest)
    assert answer(engine).text == "one two"
    assert server.chats()[-1]["model"] == "other"


def test_nobody_there_names_the_address_and_a_later_call_tries_again() -> None:
    with ScriptedOpenAI() as server:
        engine, port = engine_for(server), server.server_address[1]
    for _ in range(2):
        with pytest.raises(
            EngineUnavailable, match=rf"server at http://127\.0\.0\.1:{port}\. Start it, or set VLLM_BA"
        ):
            answer(engine)
        assert engine.status().state is EngineState.FAILED
    with ScriptedOpenAI(port=port):
        assert answer(engine).text == "one two"
    engine.close()


@pytest.mark.parametrize(
    ("route", "error", "text"),
    [
        (refuses(401, f"Incorrect API key provided: {KEY}"), EngineUnavailable, "key (HTTP 401). Set VLLM_REMOTE_API"),
        (refuses(403, f"no access with {KEY}"), InvalidGeneration, "(HTTP 403): no access with ….\n"),
        (answers(b"", 302, Location="http://169.254.169.254/"), EngineUnavailable, "redirects"),
        (answers(b"<html>hi</html>", Content_Type="text/html"), EngineUnavailable, "answered text/html instead of a"),
        (answers(b"{}"), GenerationFailed, "sent an empty response"),
        (answers(b"", Content_Type="text/event-stream"), GenerationFailed, "sent an empty response"),
        (answers(b"x", Content_Type="text/event-stream", Content_Encoding="br"), EngineUnavailable, "compression"),
        (refuses(400, TOO_LONG), PromptTooLong, "it has 3000 tokens, and the model's context holds 2048"),
        (refuses(400, "max_tokens must be at least 1, got 0."), InvalidGeneration, "The prompt is too long for the mo"),
        (refuses(400, "temperature must be positive"), InvalidGeneration, "(HTTP 400): temperature must be positive."),
        (answers(b"x" * 100_000, 413), InvalidGeneration, "fewer or smaller images"),
        (answers(b"<html>Bad gateway</html>", 502), GenerationFailed, "(HTTP 502), and gave no reason. Try again."),
        (refuses(500, f"boom at /srv/app/x.py 0x7f12ab34 {KEY}"), GenerationFailed, "(HTTP 500): boom at … … …. Try"),
        (answers(b"[" * 50_000, 500), GenerationFailed, "gave no reason"),
        (hangs_up, GenerationFailed, "was lost"),
        (streams(piece(content="half")), GenerationFailed, "was lost before its response was complete"),
        (streams("[DONE]"), GenerationFailed, "was lost"),
        (streams(piece(content="half"), "{not json"), GenerationFailed, "not what an OpenAI-compatible server sends"),
        (streams('{"choices": 5}'), GenerationFailed, "not what an OpenAI-compatible server sends"),
        (cut_up(b"data: \xff\xfe\n\n", 4), GenerationFailed, "not what an OpenAI-compatible server sends"),
        (streams("[" * 50_000), GenerationFailed, "not what an OpenAI-compatible server sends"),
        (streams(piece(content="a"), {"error": {"message": "engine died", "code": 500}}), GenerationFailed, "engine d"),
        (streams(piece("content_filter")), GenerationFailed, "content filter"),
        (streams(piece("abort")), GenerationFailed, "aborted this request"),
        (floods, GenerationFailed, "longer than max_tokens allows"),
        (drips, GenerationFailed, "sent nothing for 5 s"),
    ],
)
def test_server_that_misbehaves(
    server: ScriptedOpenAI, engine: RemoteEngine, route: Route, error: type[EngineError], text: str
) -> None:
    def and_close(request: Any, fields: Any) -> None:
        request.close_connection = True
        # Said, or the client may send the next request into a connection that is just being closed.
        request.default_headers = {**request.default_headers, "Connection": "close"}
        route(request, fields)

    engine.load()
    server.script(and_close)
    with pytest.raises(error) as caught:
        answer(engine)
    assert text in str(caught.value) + "\n"
    assert KEY not in str(caught.value)
    server.script(server.honest)
    assert answer(engine).text == "one two"


@pytest.mark.parametrize(
    ("route", "text"),
    [
        (refuses(401, "no"), "VLLM_REMOTE_API_KEY"),
        (answers(b"<html>"), "Check VLLM_BASE_URL"),
        (answers(b'{"data": []}'), "has no model"),
        (answers(b'{"detail":"Not Found"}', 404), "set VLLM_MODEL_NAME"),
        (answers(b"x" * 5_000_000), "Check VLLM_BASE_URL"),
        (refuses(503, "warming up"), "not ready (HTTP 503): warming up."),
    ],
)
def test_server_that_cannot_be_used_at_all(server: ScriptedOpenAI, route: Route, text: str) -> None:
    server.script(route, path=MODELS)
    engine = engine_for(server)
    with pytest.raises(EngineUnavailable) as caught:
        engine.load()
    assert text in str(caught.value)
    assert engine.status().error == str(caught.value)
    engine.close()


def test_answer_that_may_not_be_so_long_is_asked_for_shorter(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    server.script(refuses(400, NO_ROOM), server.honest)
    assert answer(engine, sampling=Sampling(0.0, 2000)).text == "one two"
    assert [chat["max_tokens"] for chat in server.chats()] == [2000, 1048]


@pytest.mark.parametrize(("status", "header"), [(429, "0.05"), (503, "0"), (503, None), (429, "date")])
def test_busy_server_is_asked_again(
    server: ScriptedOpenAI, engine: RemoteEngine, monkeypatch: pytest.MonkeyPatch, status: int, header: str | None
) -> None:
    monkeypatch.setattr("engine.remote.client.FIRST_WAIT_S", 0.02)
    headers = {"Retry_After": email.utils.formatdate() if header == "date" else header} if header else {}
    server.script(refuses(status, "busy", **headers), refuses(status, "busy", **headers), server.honest)
    assert answer(engine).text == "one two"
    assert len(server.chats()) == 3


def test_server_that_stays_busy_is_asked_three_times(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    server.script(refuses(429, "slow down", Retry_After="0"))
    with pytest.raises(ServerBusy, match=r"too many requests \(HTTP 429\): slow down\. Try again later"):
        answer(engine)
    assert len(server.chats()) == 3


def test_waiting_for_a_busy_server_never_passes_the_deadline(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    engine.load()
    server.script(refuses(429, "slow down", Retry_After="30"))
    started_s = time.monotonic()
    with pytest.raises(ServerBusy, match=r"It asks to wait 30 s\.$"):
        answer(engine, Control(deadline_s=started_s + 25))
    assert time.monotonic() - started_s < 15
    assert len(server.chats()) == 1


def test_waiting_for_a_busy_server_can_be_cancelled(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    engine.load()
    cancellation, refuse = Cancellation(), refuses(429, "slow down", Retry_After="30")

    def cancels_and_refuses(*request: Any) -> None:
        cancellation.set()
        refuse(*request)

    server.script(cancels_and_refuses)
    started_s = time.monotonic()
    with pytest.raises(GenerationCancelled):
        answer(engine, Control(cancellation=cancellation))
    assert time.monotonic() - started_s < 15
    assert len(server.chats()) == 1
