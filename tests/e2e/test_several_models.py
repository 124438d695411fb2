"""Several models behind one server: in turn and at once, with room for all of them and with room for one.

The answers are greedy and equal those of servers with one model each. Figures are printed (`pytest -s`).
"""

from __future__ import annotations

import json
import signal
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import real_models, tiny_models
from tests.e2e.model_hub import ModelHub
from tests.e2e.server_process import LOAD_S, Json, ServerProcess
from tests.mcp_results import text_of
from tests.speech import speech, word_error_rate

DEMO, SMOL = "demo", "smol"
QUESTIONS = (
    "What is the capital of France?",
    "My name is Ada. What is my name?",
    "Name three colours.",
    "Tell me about the sea.",
)
SPOKEN = "The old lighthouse stands at the end of the harbour. Every evening the keeper climbs the stairs."
MAX_GROWTH_BYTES = 20 << 20
FOUR_WORKERS = {"VLLM_MAX_CONCURRENT": "4"}
ROOM_FOR_ONE = {"VLLM_MAX_LOADED_MODELS": "1"}

Answers = dict[tuple[str, str], str]


def chat(model: str | None, text: str = QUESTIONS[0], max_tokens: int = 24, **arguments: Any) -> Json:
    """Arguments of a greedy chat."""
    named = {} if model is None else {"model": model}
    messages = [{"role": "user", "content": text}]
    return {"messages": messages, "max_tokens": max_tokens, "temperature": 0, **named, **arguments}


@pytest.fixture(scope="module")
def smol() -> Json:
    """The second model, as `VLLM_MODELS` names it: in a type in which a batch answers as a single request does."""
    return {"model": real_models.folder("smollm2-135m-instruct"), "dtype": "float32", "cpu_kvcache_space_gib": 0.5}


@pytest.fixture(scope="module")
def both(model: dict[str, str], smol: Json) -> dict[str, str]:
    """The settings of a server with both models, the bundled one as the default."""
    return {**model, "GPU_IDLE_TIMEOUT": "0", "VLLM_MODELS": json.dumps({SMOL: smol})}


@pytest.fixture(scope="module")
def default_name(model: dict[str, str]) -> str:
    return Path(model["VLLM_MODEL_NAME"]).name


@pytest.fixture(scope="module")
def alone(model: dict[str, str], smol: Json) -> Answers:
    """The answers of each model in a server of its own."""
    settings = {
        DEMO: model,
        SMOL: {"VLLM_MODEL_NAME": smol["model"], "VLLM_DTYPE": "float32", "VLLM_CPU_KVCACHE_SPACE": "0.5"},
    }
    answers = {}
    for name, environment in settings.items():
        with ServerProcess(environment) as server:
            server.initialize()
            for question in QUESTIONS:
                answers[name, question] = server.result("chat_completion", chat(None, question))["text"]
    assert "Paris" in answers[SMOL, QUESTIONS[0]]
    assert "Ada" in answers[DEMO, QUESTIONS[1]]
    return answers


@pytest.fixture(scope="module")
def roomy_server(both: dict[str, str]) -> Iterator[ServerProcess]:
    """A server that has both models in memory, and four workers."""
    with ServerProcess({**both, **FOUR_WORKERS}) as process:
        process.initialize()
        yield process


@pytest.fixture
def narrow_server(both: dict[str, str]) -> Iterator[ServerProcess]:
    """A server that has one model in memory at a time, and four workers."""
    with ServerProcess({**both, **FOUR_WORKERS, **ROOM_FOR_ONE}) as process:
        process.initialize()
        yield process


def ask(server: ServerProcess, name: str, question: str, default_name: str) -> str:
    """Asks a model, and returns its answer."""
    result = server.result("chat_completion", chat(None if name == DEMO else name, question))
    assert result["model"] == (default_name if name == DEMO else name)
    return str(result["text"])


def ask_at_once(server: ServerProcess, asked: Sequence[tuple[str, str]], **options: Any) -> Answers:
    """Sends all questions at once; returns the answers."""
    ids = {
        server.send_call("chat_completion", chat(None if name == DEMO else name, text), **options): (name, text)
        for name, text in asked
    }
    answers: Answers = {}
    while len(answers) < len(set(asked)):
        message = server.read_message(LOAD_S)
        if "method" in message:
            continue
        assert not message["result"]["isError"], message
        answers[ids[message["id"]]] = message["result"]["structuredContent"]["text"]
    return answers


def wait_for_phase(server: ServerProcess, token: Any, text: str) -> list[str]:
    """Reads until the progress of a call has this text; returns all its texts so far."""
    seen: list[str] = []
    while True:
        message = server.read_message(LOAD_S)
        assert "method" in message, message
        if message["params"].get("progressToken") == token:
            seen.append(message["params"]["message"])
            if text in seen[-1]:
                return seen


def test_two_models_answer_in_turn_as_each_does_alone(
    roomy_server: ServerProcess, alone: Answers, default_name: str
) -> None:
    for question in QUESTIONS:
        for name in (DEMO, SMOL):
            assert ask(roomy_server, name, question, default_name) == alone[name, question]


def test_two_models_answer_four_at_a_time(roomy_server: ServerProcess, alone: Answers) -> None:
    asked = [(name, question) for question in QUESTIONS for name in (DEMO, SMOL)]
    for _ in range(3):
        assert ask_at_once(roomy_server, asked) == alone


def test_a_switch_between_loaded_models_costs_no_more_than_a_call(roomy_server: ServerProcess) -> None:
    """Printed, not asserted: how much longer a call takes when the one before was for the other model."""

    def times_ms(names: Sequence[str | None]) -> list[float]:
        found = []
        for name in names:
            begin_s = time.perf_counter()
            result = roomy_server.result("chat_completion", chat(name, "Hi", 1))
            found.append(1e3 * (time.perf_counter() - begin_s))
            loads_ms.append(result["timings"]["load_ms"])
        return found

    loads_ms: list[float] = []
    times_ms([None, SMOL])
    loads_ms.clear()
    same = [statistics.median(times_ms([name] * 20)) for name in (None, SMOL)]
    mixed = times_ms([None, SMOL] * 20)
    switched = [statistics.median(mixed[offset::2]) for offset in (0, 1)]
    for name, before, after in zip((DEMO, SMOL), same, switched, strict=True):
        print(f"{name}: {before:.1f} ms a call, {after:.1f} ms after a switch")
    assert not any(loads_ms)


@pytest.mark.parametrize("n_workers", ["1", "4"])
def test_models_that_give_way_leave_nothing(
    both: dict[str, str], alone: Answers, default_name: str, n_workers: str
) -> None:
    sizes, released, times_s = [], [], []
    with ServerProcess({**both, **ROOM_FOR_ONE, "VLLM_MAX_CONCURRENT": n_workers}) as server:
        server.initialize()
        for switch in range(11):
            name, question = (SMOL, DEMO)[switch % 2], QUESTIONS[switch // 2 % len(QUESTIONS)]
            begin_s = time.monotonic()
            assert ask(server, name, question, default_name) == alone[name, question]
            times_s.append(time.monotonic() - begin_s)
            for each in QUESTIONS:  # oneDNN keeps a kernel for each length of a prompt
                server.result("chat_completion", chat(None if name == DEMO else name, each, 1))
            sizes.append(server.resident_bytes())
            if switch in (3, 10):
                server.result("release_gpu")
                released.append(server.resident_bytes())
    print("switches, s:", [f"{time_s:.1f}" for time_s in times_s])
    print(
        "memory after each, MB:", [size >> 20 for size in sizes], "with none loaded:", [size >> 20 for size in released]
    )
    assert sizes[9] - sizes[3] < MAX_GROWTH_BYTES


def test_two_models_answer_four_at_a_time_with_room_for_one(narrow_server: ServerProcess, alone: Answers) -> None:
    asked = [(name, question) for question in QUESTIONS for name in (DEMO, SMOL)]
    assert ask_at_once(narrow_server, asked) == alone
    assert ask_at_once(narrow_server, asked[::-1]) == alone
    loads_ms = [narrow_server.result("chat_completion", chat(name))["timings"]["load_ms"] for name in (None, SMOL)]
    assert loads_ms[1] > 0


def test_progress_tells_what_gives_way_and_what_is_loaded(narrow_server: ServerProcess, default_name: str) -> None:
    narrow_server.result("chat_completion", chat(None))
    narrow_server.send_call("chat_completion", chat(SMOL), request_id="switch", meta={"progressToken": "p"})
    phases = wait_for_phase(narrow_server, "p", "loading weights")
    assert f"{SMOL}: releasing {default_name} to make room" in phases[0]
    assert f"{SMOL}: loading weights" in phases[-1]
    assert not narrow_server.read_answer("switch", LOAD_S)["result"]["isError"]


def test_a_call_waits_for_the_model_in_use_and_can_be_cancelled(
    narrow_server: ServerProcess, default_name: str
) -> None:
    narrow_server.result("chat_completion", chat(None))
    narrow_server.send_call(
        "chat_completion", chat(None, max_tokens=900, ignore_eos=True), request_id="long", meta={"progressToken": "l"}
    )
    narrow_server.send_call("chat_completion", chat(SMOL), request_id="waits", meta={"progressToken": "w"})
    wait_for_phase(narrow_server, "w", f"waiting until {default_name} is free")
    narrow_server.notify("notifications/cancelled", {"requestId": "waits"})
    answer = narrow_server.read_answer("long", LOAD_S)
    assert answer["result"]["structuredContent"]["usage"]["completion_tokens"] == 900
    assert narrow_server.result("chat_completion", chat(SMOL))["model"] == SMOL


def test_a_call_is_cancelled_while_another_model_loads(both: dict[str, str]) -> None:
    with ServerProcess({**both, **FOUR_WORKERS}) as server:
        server.initialize()
        server.result("chat_completion", chat(None, max_tokens=1))
        server.send_call("chat_completion", chat(SMOL), request_id="load", meta={"progressToken": "p"})
        wait_for_phase(server, "p", "loading weights")
        server.send_call("chat_completion", chat(None, max_tokens=900, ignore_eos=True), request_id="cancelled")
        server.notify("notifications/cancelled", {"requestId": "cancelled"})
        server.send_call("chat_completion", chat(None, max_tokens=900, timeout_s=0.05), request_id="late")
        answers: dict[Any, Json] = {}
        while len(answers) < 2:
            message = server.read_message(LOAD_S)
            if "method" not in message:
                answers[message["id"]] = message
        assert set(answers) == {"load", "late"}
        assert "Paris" in text_of(answers["load"])
        server.assert_serves()


@pytest.mark.parametrize("phase", ["releasing", "loading weights"])
def test_a_signal_during_a_switch_ends_the_server(narrow_server: ServerProcess, phase: str) -> None:
    narrow_server.result("chat_completion", chat(None))
    narrow_server.send_call("chat_completion", chat(SMOL), meta={"progressToken": "p"})
    wait_for_phase(narrow_server, "p", phase)
    since_s = time.monotonic()
    narrow_server.signal(signal.SIGTERM)
    narrow_server.assert_ends_promptly(since_s)
    assert narrow_server.marked() == []


def test_a_broken_model_fails_alone(both: dict[str, str], smol: Json, alone: Answers, tmp_path: Path) -> None:
    """One without weights, one that is not there, and one that would have to be downloaded."""
    (tmp_path / "config.json").write_text((Path(smol["model"]) / "config.json").read_text())
    models = {SMOL: smol, "empty": str(tmp_path), "gone": str(tmp_path / "none"), "far": "no-such-owner/no-such-model"}
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_CACHE": str(tmp_path / "cache")}
    with ServerProcess({**both, **FOUR_WORKERS, **nowhere, "VLLM_MODELS": json.dumps(models)}) as server:
        server.initialize()
        assert server.result("chat_completion", chat(SMOL))["text"] == alone[SMOL, QUESTIONS[0]]
        for name, problem in (
            ("empty", "Failed to initialize vLLM"),
            ("gone", "Set VLLM_MODELS to a model's folder or Hugging Face name."),
            ("far", "Hugging Face cannot be reached"),
            ("unknown", f"The models of this server: {DEMO}"),
        ):
            answer = server.call("chat_completion", chat(name))
            assert answer["result"]["isError"], answer
            assert problem in text_of(answer), answer
            for working in (DEMO, SMOL):
                text = server.result("chat_completion", chat(None if working == DEMO else working))["text"]
                assert text == alone[working, QUESTIONS[0]]


def test_a_model_is_downloaded_while_another_answers(both: dict[str, str], alone: Answers, tmp_path: Path) -> None:
    """The first model is a folder, and needs no network."""
    gate = threading.Event()
    with ModelHub("owner/model", tiny_models.text_model(), gate) as hub:
        models = {"far": {"model": "owner/model", "cpu_kvcache_space_gib": 0.1}}
        settings = {"VLLM_MODELS": json.dumps(models), "HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path)}
        with ServerProcess({**both, **FOUR_WORKERS, **settings}) as server:
            server.initialize()
            server.result("chat_completion", chat(None, max_tokens=1))
            server.send_call("chat_completion", chat("far"), request_id="far")
            assert hub.asked_for_weights.wait(LOAD_S)
            text = server.result("chat_completion", chat(None))["text"]
            assert text == alone[DEMO, QUESTIONS[0]]
            gate.set()
            answer = server.read_answer("far", LOAD_S)["result"]
            assert not answer["isError"], answer
            assert answer["structuredContent"]["model"] == "far"


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of some seconds."""
    path = tmp_path_factory.mktemp("speech") / "spoken.wav"
    path.write_bytes(speech(SPOKEN))
    return path


@pytest.mark.parametrize("room", [{}, ROOM_FOR_ONE], ids=["room for all", "room for one"])
def test_two_chat_models_and_a_speech_model_at_once(
    both: dict[str, str], alone: Answers, spoken: Path, room: dict[str, str]
) -> None:
    """By one client in turn, and four calls at a time."""
    asr = {"VLLM_ASR_MODEL": real_models.folder("whisper-base")}
    arguments = {"audio_path": str(spoken), "language": "en"}
    with ServerProcess({**both, **FOUR_WORKERS, **room, **asr}) as server:
        server.initialize()
        transcript = server.result("transcribe_audio", arguments)["text"]
        assert word_error_rate(SPOKEN, transcript) < 0.3, transcript
        for name in (DEMO, SMOL):
            text = server.result("chat_completion", chat(None if name == DEMO else name))["text"]
            assert text == alone[name, QUESTIONS[0]]
        ids: dict[Any, Any] = {}
        for question in QUESTIONS[:2]:
            for name in (DEMO, SMOL):
                call = chat(None if name == DEMO else name, question)
                ids[server.send_call("chat_completion", call)] = name, question
            ids[server.send_call("transcribe_audio", arguments)] = None
        while ids:
            message = server.read_message(LOAD_S)
            if "method" in message:
                continue
            assert not message["result"]["isError"], message
            asked, text = ids.pop(message["id"]), message["result"]["structuredContent"]["text"]
            assert text == (transcript if asked is None else alone[asked])
        print(f"{'one' if room else 'all'} in memory: {server.resident_bytes() >> 20} MB")
