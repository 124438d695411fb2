"""What the remote engine knows of its server, and what it does beside answering."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.errors import EngineUnavailable, InvalidGeneration, OffloadUnsupported
from engine.interface import Control, EngineState, Sampling
from engine.remote.engine import RemoteEngine
from settings import EngineSettings
from tests.mcp_results import Json
from tests.scripted_openai import MODEL, MODELS, Request, Route, ScriptedOpenAI, answers, goes_on, hangs_up, refuses
from tests.unit.engine.remote.samples import KEY, answer, engine_for

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/", "/v1/chat/completions"])
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
        "import sys; from engine.remote.engine import RemoteEngine; from settings import EngineSettings; "
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


def test_adapter_is_a_model_of_the_server(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    answer(engine, lora="sql")
    assert server.chats()[-1]["model"] == "sql"
    server.script(refuses(404, "The model `sql` does not exist."))
    with pytest.raises(InvalidGeneration, match=f"has no model 'sql'; it has {MODEL}") as caught:
        answer(engine, lora="sql")
    assert "The argument lora must name" in str(caught.value)
    assert "VLLM_MODEL_NAME" not in str(caught.value)
    assert engine.status().state is EngineState.READY


def test_server_that_lists_no_models_is_used_with_the_name_given(server: ScriptedOpenAI) -> None:
    server.script(answers(b'{"detail":"Not Found"}', 404), path=MODELS)
    engine = engine_for(server, model_name="gpt-x")
    assert answer(engine, sampling=Sampling(0.5, 16)).text == "one two"
    assert server.chats()[-1]["model"] == "gpt-x"
    engine.close()


@pytest.mark.parametrize(
    "route",
    [
        answers(b"", 403),
        answers(b"", 405),
        answers(b"boom", 500),
        answers(b"<html>"),
        answers(b'{"data": [{"id": 5}]}'),
        answers(b'{"error": {"message": "not for you"}}'),
        hangs_up,
    ],
)
def test_models_that_are_not_told_do_not_stop_a_model_that_is_named(server: ScriptedOpenAI, route: Route) -> None:
    server.script(route, path=MODELS)
    engine = engine_for(server, model_name="gpt-x")
    assert answer(engine).text == "one two"
    assert (engine.status().state, engine.status().model_name) == (EngineState.READY, "gpt-x")
    server.script(refuses(404, "The model gpt-x does not exist."))
    with pytest.raises(EngineUnavailable, match=r"The model gpt-x does not exist\. Check that gpt-x is a chat model"):
        answer(engine)
    engine.close()


def test_model_that_is_not_listed_is_asked_for_where_a_setting_says_so(server: ScriptedOpenAI) -> None:
    engine = engine_for(server, model_name="other:nitro")
    with pytest.raises(EngineUnavailable, match=r"has no model 'other:nitro'.* set VLLM_UNLISTED_MODELS=1"):
        answer(engine)
    engine.close()
    engine = engine_for(server, model_name="other:nitro", unlisted_models=True)
    assert answer(engine).text == "one two"
    assert server.chats()[-1]["model"] == "other:nitro"
    engine.close()


def test_key_is_sent_and_shown_nowhere(
    server: ScriptedOpenAI, engine: RemoteEngine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    completion = answer(engine)
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert KEY not in caplog.text + repr(completion) + repr(engine.status())


def test_key_that_cannot_be_one_is_refused_without_showing_it(server: ScriptedOpenAI) -> None:
    engine = RemoteEngine(EngineSettings(base_url=server.url, remote_api_key="sk-ключ\n1"))
    with pytest.raises(EngineUnavailable, match="VLLM_REMOTE_API_KEY contains characters") as caught:
        engine.load()
    assert "ключ" not in str(caught.value)
    engine.close()


def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch, engine: RemoteEngine) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert answer(engine).text == "one two"


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


# Several callers at a time


@pytest.mark.parametrize("n_callers", [8, 40])
def test_generations_of_several_callers_are_in_flight_together(server: ScriptedOpenAI, n_callers: int) -> None:
    together = threading.Barrier(n_callers)

    def answers_when_all_are_there(request: Request, fields: Json) -> None:
        together.wait(30)
        server.honest(request, fields)

    server.script(*[answers_when_all_are_there] * n_callers)
    engine = RemoteEngine(EngineSettings(base_url=server.url), n_callers=n_callers)
    with ThreadPoolExecutor(n_callers) as pool:
        asked = [pool.submit(answer, engine, text=f"{number} two") for number in range(n_callers)]
        assert [future.result(60).text for future in asked] == [f"{number} two" for number in range(n_callers)]
    assert [path for path, _ in server.seen].count(MODELS) == 1
    engine.close()


def test_server_that_is_gone_is_noted_once_and_asked_again_by_the_next(
    server: ScriptedOpenAI, engine: RemoteEngine
) -> None:
    engine.load()
    server.script(refuses(401, "no key"))
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(answer, engine) for _ in range(4)]
        for future in asked:
            with pytest.raises(EngineUnavailable):
                future.result(60)
    assert engine.status().state is EngineState.FAILED
    server.script(server.honest)
    assert answer(engine).text == "one two"
    assert engine.status().state is EngineState.READY


def test_release_lets_those_in_flight_end(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def waits(request: Request, fields: Json) -> None:
        begun.set()
        assert go_on.wait(30)
        server.honest(request, fields)

    server.script(waits)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(answer, engine)
        assert begun.wait(30)
        engine.release()
        go_on.set()
        assert asked.result(60).text == "one two"
    assert engine.status().state is EngineState.UNLOADED


def test_slow_list_does_not_keep_a_named_model_waiting(server: ScriptedOpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.remote.engine.PATIENCE_S", 0.1)
    go = threading.Event()

    def waits(request: Request, fields: Json) -> None:
        go.wait(10)
        server.honest(request, fields)

    server.script(waits, path=MODELS)
    engine = engine_for(server, model_name=MODEL)
    assert answer(engine).text == "one two"
    assert (engine.status().state, engine.status().max_model_len) == (EngineState.READY, None)
    go.set()
    started_s = time.monotonic()
    while engine.status().max_model_len is None and time.monotonic() - started_s < 10:
        time.sleep(0.01)
    assert (engine.status().max_model_len, engine.status().vllm_version) == (2048, "0.32.0")
    assert answer(engine).text == "one two"
    engine.close()
