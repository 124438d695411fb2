"""The remote engine against a server on this machine, which behaves well, or as badly as servers can."""

from __future__ import annotations

import email.utils
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import (
    EngineError,
    EngineUnavailable,
    GenerationCancelled,
    GenerationFailed,
    InvalidGeneration,
    OffloadUnsupported,
    PromptTooLong,
    ServerBusy,
)
from engine.interface import (
    Completion,
    Control,
    Conversation,
    EngineState,
    FinishReason,
    Message,
    Sampling,
    TextPart,
    ToolCall,
)
from engine.remote import RemoteEngine
from settings import EngineSettings
from tests.scripted_openai import (
    MODEL,
    MODELS,
    Route,
    ScriptedOpenAI,
    answers,
    cut_up,
    drips,
    floods,
    goes_on,
    hangs_up,
    piece,
    refuses,
    said,
    streams,
    usage,
)

ROOT = Path(__file__).parents[3]
KEY = "sk-very-secret-0123456789"
TOO_LONG = (
    "This model's maximum context length is 2048 tokens. However, your prompt contains 3000 input tokens, which "
    "exceeds this limit even without any output tokens. (parameter=input_tokens, value=3000)"
)
NO_ROOM = (
    "This model's maximum context length is 2048 tokens. However, you requested 3000 tokens (1000 in the messages, "
    "2000 in the completion). Please reduce the length of the messages or completion."
)


@pytest.fixture
def server() -> Iterator[ScriptedOpenAI]:
    with ScriptedOpenAI() as running:
        yield running


@pytest.fixture
def engine(server: ScriptedOpenAI) -> Iterator[RemoteEngine]:
    made = engine_for(server)
    yield made
    made.close()


def engine_for(server: ScriptedOpenAI, **settings: Any) -> RemoteEngine:
    return RemoteEngine(EngineSettings(base_url=server.url, remote_api_key=KEY, **settings), silence_s=0.5)


def asked(text: str = "one two", **rest: Any) -> Conversation:
    rest.setdefault("sampling", Sampling(0.0, 16))
    return Conversation((Message("user", (TextPart(text),)),), **rest)


def answer(engine: RemoteEngine, control: Control | None = None, **rest: Any) -> Completion:
    (completion,) = engine.generate([asked(**rest)], control or Control())
    return completion


def test_answer_is_streamed_and_counted(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    told: list[tuple[int, str, int]] = []
    server.script(streams(*said("one", "two", "three")[:-2], usage(9, 3, cached_tokens=4), "[DONE]"))
    completion = answer(engine, Control(on_text=lambda *step: told.append(step)))
    assert completion.text == "one two three"
    assert completion.finish_reason is FinishReason.STOP
    assert (completion.prompt_tokens, completion.completion_tokens, completion.cached_tokens) == (9, 3, 4)
    assert told == [(0, "one", 1), (0, " two", 2), (0, " three", 3)]
    assert completion.first_token_ms is not None


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/"])
def test_address_is_right_with_and_without_v1(server: ScriptedOpenAI, suffix: str) -> None:
    engine = RemoteEngine(EngineSettings(base_url=server.url + suffix))
    assert answer(engine).text == "one two"
    engine.close()


def test_status_tells_what_the_server_has(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    before = engine.status()
    assert (before.state, before.device, before.can_offload) == (EngineState.UNLOADED, "remote", False)
    assert server.seen == []
    phases: list[str] = []
    engine.load(phases.append)
    status = engine.status()
    assert phases == ["asking the model server"]
    assert (status.state, status.model_name, status.max_model_len) == (EngineState.READY, MODEL, 2048)
    assert status.vllm_version == "0.32.0"
    assert status.last_used_s is None, "an idle remote engine has nothing to give back"
    engine.load()
    assert [path for path, _ in server.seen].count(MODELS) == 1


def test_nothing_is_here_to_offload_or_release(engine: RemoteEngine) -> None:
    engine.load()
    with pytest.raises(OffloadUnsupported, match=r"the model runs on the server at http://127"):
        engine.offload()
    engine.release()
    assert engine.status().state is EngineState.UNLOADED
    assert answer(engine).text == "one two"


def test_importing_and_asking_for_the_status_costs_nothing_heavy() -> None:
    heavy = ("httpx", "vllm", "torch", "numpy", "PIL")
    program = (
        "import sys; from engine.remote import RemoteEngine; from settings import EngineSettings; "
        "RemoteEngine(EngineSettings(base_url='http://127.0.0.1:1')).status(); "
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_model_is_the_one_named_else_the_first() -> None:
    with ScriptedOpenAI(["a", "b"]) as server:
        for settings, name in (({}, "a"), ({"model_name": "b"}, "b")):
            engine = engine_for(server, **settings)
            answer(engine)
            assert (engine.status().model_name, server.chats()[-1]["model"]) == (name, name)
            engine.close()
        engine = engine_for(server, model_name="c")
        with pytest.raises(EngineUnavailable, match=r"has no model 'c'; it has a, b\. Set VLLM_MODEL_NAME"):
            engine.load()
        assert engine.status().state is EngineState.FAILED
        engine.close()


def test_model_that_went_is_told_with_those_that_are_there(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    engine.load()
    server.models = ["other"]
    server.script(refuses(404, f"The model `{MODEL}` does not exist."))
    with pytest.raises(EngineUnavailable, match=f"has no model '{MODEL}'; it has other"):
        answer(engine)
    server.script(server.honest)
    assert answer(engine).text == "one two"
    assert server.chats()[-1]["model"] == "other"


def test_adapter_is_a_model_of_the_server(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    answer(engine, lora="sql")
    assert server.chats()[-1]["model"] == "sql"
    server.script(refuses(404, "The model `sql` does not exist."))
    with pytest.raises(InvalidGeneration, match=f"has no model 'sql'; it has {MODEL}"):
        answer(engine, lora="sql")
    assert engine.status().state is EngineState.READY


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
        (answers(b"<html>hi</html>", Content_Type="text/html"), EngineUnavailable, "answered text/html in place of a"),
        (answers(b"{}"), EngineUnavailable, "application/json in place of a stream"),
        (answers(b"", Content_Type="text/event-stream", Content_Encoding="gzip"), EngineUnavailable, "compression"),
        (refuses(400, TOO_LONG), PromptTooLong, "it has 3000 tokens, and the model's context holds 2048"),
        (refuses(400, "temperature must be positive"), InvalidGeneration, "(HTTP 400): temperature must be positive."),
        (answers(b"x" * 100_000, 413), InvalidGeneration, "fewer or smaller pictures"),
        (answers(b"<html>Bad gateway</html>", 502), GenerationFailed, "(HTTP 502), and gave no reason. Try again."),
        (refuses(500, f"boom at /srv/app/x.py 0x7f12ab34 {KEY}"), GenerationFailed, "(HTTP 500): boom at … … …. Try"),
        (answers(b"[" * 50_000, 500), GenerationFailed, "gave no reason"),
        (hangs_up, GenerationFailed, "was lost"),
        (streams(piece(content="half")), GenerationFailed, "was lost before its answer was complete"),
        (streams("[DONE]"), GenerationFailed, "was lost"),
        (streams(piece(content="half"), "{not json"), GenerationFailed, "not what an OpenAI-compatible server sends"),
        (streams('{"choices": 5}'), GenerationFailed, "not what an OpenAI-compatible server sends"),
        (cut_up(b"data: \xff\xfe\n\n", 4), GenerationFailed, "not what an OpenAI-compatible server sends"),
        (streams("[" * 50_000), GenerationFailed, "not what an OpenAI-compatible server sends"),
        (streams(piece(content="a"), {"error": {"message": "engine died", "code": 500}}), GenerationFailed, "engine d"),
        (streams(piece("content_filter")), GenerationFailed, "content filter"),
        (streams(piece("abort")), GenerationFailed, "gave this request up"),
        (floods, GenerationFailed, "longer than it can be"),
        (drips, GenerationFailed, "sent nothing of an answer for 0.5 s"),
    ],
)
def test_server_that_misbehaves(
    server: ScriptedOpenAI, engine: RemoteEngine, route: Route, error: type[EngineError], text: str
) -> None:
    def and_close(request: Any, fields: Any) -> None:
        request.close_connection = True
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


def test_server_that_lists_no_models_is_used_with_the_name_given(server: ScriptedOpenAI) -> None:
    server.script(answers(b'{"detail":"Not Found"}', 404), path=MODELS)
    engine = engine_for(server, model_name="gpt-x")
    assert answer(engine, sampling=Sampling(0.5, 16)).text == "one two"
    assert server.chats()[-1]["model"] == "gpt-x"
    engine.close()


def test_answer_that_may_not_be_so_long_is_asked_for_shorter(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    server.script(refuses(400, NO_ROOM), server.honest)
    assert answer(engine, sampling=Sampling(0.0, 2000)).text == "one two"
    assert [chat["max_tokens"] for chat in server.chats()] == [2000, 1048]


def test_key_is_sent_and_shown_nowhere(
    server: ScriptedOpenAI, engine: RemoteEngine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    completion = answer(engine)
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert KEY not in caplog.text + repr(completion) + repr(engine.status())


def test_key_that_cannot_be_one_is_refused_without_showing_it(server: ScriptedOpenAI) -> None:
    engine = RemoteEngine(EngineSettings(base_url=server.url, remote_api_key="sk-ключ\n1"))
    with pytest.raises(EngineUnavailable, match="VLLM_REMOTE_API_KEY holds characters") as caught:
        engine.load()
    assert "ключ" not in str(caught.value)
    engine.close()


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch, engine: RemoteEngine) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert answer(engine).text == "one two"


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


TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def call_piece(index: int, arguments: str | None = None, **rest: Any) -> dict[str, Any]:
    function = {key: rest.pop(key) for key in ("name",) if key in rest}
    return piece(tool_calls=[{"index": index, **rest, "function": {**function, "arguments": arguments}}])


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
    closed, begun = threading.Event(), threading.Event()

    def wait(request: Any, fields: Any) -> None:
        request.begin()
        request.event(piece(content="on"))
        if request.is_hung_up_on():
            closed.set()

    server.script(wait)
    control = Control(cancelled=begun.is_set, on_text=lambda *step: begun.set())
    started_s = time.monotonic()
    with pytest.raises(GenerationCancelled):
        answer(engine, control)
    assert time.monotonic() - started_s < 0.4, "long before the server was silent for too long"
    assert closed.wait(5)


def test_deadline_answers_with_the_text_so_far(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    engine.load()
    server.script(goes_on)
    completion = answer(engine, Control(deadline_s=time.monotonic() + 0.2))
    assert completion.finish_reason is FinishReason.TIMEOUT
    assert completion.text.startswith("on on ")
    assert completion.completion_tokens == completion.text.count("on")


def test_deadline_while_nothing_comes(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    engine.load()
    server.script(drips)
    completion = answer(engine, Control(deadline_s=time.monotonic() + 0.1))
    assert (completion.finish_reason, completion.text) == (FinishReason.TIMEOUT, "")


@pytest.mark.parametrize(("status", "header"), [(429, "0.05"), (503, "0"), (503, None), (429, "date")])
def test_busy_server_is_asked_again(
    server: ScriptedOpenAI, engine: RemoteEngine, monkeypatch: pytest.MonkeyPatch, status: int, header: str | None
) -> None:
    monkeypatch.setattr("engine.openai_client.FIRST_WAIT_S", 0.02)
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
    with pytest.raises(ServerBusy):
        answer(engine, Control(deadline_s=started_s + 5))
    assert time.monotonic() - started_s < 2
    assert len(server.chats()) == 1


def test_waiting_for_a_busy_server_can_be_cancelled(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    engine.load()
    server.script(refuses(429, "slow down", Retry_After="30"))
    started_s = time.monotonic()
    with pytest.raises(GenerationCancelled):
        answer(engine, Control(cancelled=lambda: bool(server.chats())))
    assert time.monotonic() - started_s < 2
    assert len(server.chats()) == 1


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


def test_nothing_to_answer_asks_nobody(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    assert engine.generate([], Control()) == []
    assert server.seen == []


def test_closing_from_another_thread_ends_a_generation(server: ScriptedOpenAI) -> None:
    engine = engine_for(server)
    engine.load()
    server.script(goes_on)
    begun = threading.Event()

    def close() -> None:
        begun.wait(5)
        engine.close()

    closer = threading.Thread(target=close)
    closer.start()
    with pytest.raises(EngineUnavailable, match="shutting down"):
        answer(engine, Control(on_text=lambda *step: begun.set()))
    closer.join()
    with pytest.raises(EngineUnavailable, match="shutting down"):
        answer(engine)
