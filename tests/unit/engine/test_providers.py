"""Services with all their models: addresses, what goes into a request, and how they are ended."""

from __future__ import annotations

import base64
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EngineUnavailable, InvalidGeneration
from engine.remote.failures import NoListing, server_of
from engine.remote.media_parts import MAX_MEDIA_BYTES, MediaPart, with_media
from engine.remote.providers import Providers
from sandbox.cancellation import Cancellation
from settings.providers import RemoteProvider
from tests.scripted_openai import MODELS, Request, ScriptedOpenAI, answers, drips

ROOT = Path(__file__).parents[3]
SOUND = MediaPart("audio", b"RIFF", "audio/wav")
FILM = MediaPart("video", b"film", "video/webm")


@pytest.mark.parametrize(
    ("address", "models"),
    [
        ("http://h:1", "http://h:1/v1"),
        ("http://h:1/", "http://h:1/v1"),
        ("http://h:1/v1/", "http://h:1/v1"),
        ("http://v1.example/api", "http://v1.example/api/v1"),
        ("https://h/compatible-mode/v1", "https://h/compatible-mode/v1"),
        ("https://h/api/v3", "https://h/api/v3"),
        ("https://h/v1beta/openai", "https://h/v1beta/openai"),
    ],
)
def test_version_is_added_where_an_address_has_none(address: str, models: str) -> None:
    assert server_of(address, None).api_url == models


def body(content: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": content}]}


def test_sound_and_film_go_behind_the_last_message() -> None:
    found = with_media(body("look"), (SOUND, FILM))
    encoded = base64.b64encode(b"RIFF").decode()
    assert found["messages"][0] == {"role": "system", "content": "s"}
    assert found["messages"][1]["content"] == [
        {"type": "text", "text": "look"},
        {"type": "input_audio", "input_audio": {"data": encoded, "format": "wav"}},
        {"type": "video_url", "video_url": {"url": "data:video/webm;base64,ZmlsbQ=="}},
    ]
    image = {"type": "image_url", "image_url": {"url": "data:,"}}
    assert with_media(body([image]), (FILM,))["messages"][1]["content"][0] == image
    assert with_media(body("look"), ()) == body("look")


def test_dashscope_takes_sound_as_an_address() -> None:
    part = with_media(body("x"), (SOUND,), is_dashscope=True)["messages"][1]["content"][1]
    assert part["input_audio"]["data"].startswith("data:;base64,")


def test_too_much_for_one_request_is_refused() -> None:
    half = MediaPart("video", bytes(MAX_MEDIA_BYTES // 2 + 1), "video/mp4")
    with pytest.raises(InvalidGeneration, match="Send shorter ones"):
        with_media(body("x"), (half, half))


def test_names_that_are_none_are_left_out() -> None:
    with ScriptedOpenAI(["a", "b" * 300, "c\u202e"]) as server:
        providers = Providers([RemoteProvider(name="lab", base_url=server.url)])
        (lab,) = providers.all
        assert [model.id for model in lab.models(lab.ask().result(10))] == ["a"]
        providers.close()


def test_odd_facts_of_models_are_passed_over() -> None:
    entries = b'{"data": [{"id": "a", "context_length": "many", "architecture": [1]}, {"id": "b", "context_length": -1,'
    entries += (
        b'"architecture": {"input_modalities": "text"}}, {"id": "c", "context_length": 5.5, "architecture": null}]}'
    )
    with ScriptedOpenAI() as server:
        server.script(answers(entries), path=MODELS)
        providers = Providers([RemoteProvider(name="lab", base_url=server.url)])
        (lab,) = providers.all
        models = lab.models(lab.ask().result(10))
        assert [(model.id, model.modalities, model.context_length) for model in models] == [
            (name, None, None) for name in "abc"
        ]
        providers.close()


@pytest.mark.parametrize("key", ["with space", "ümlaut", "new\nline"])
def test_key_that_cannot_be_sent_is_named_by_its_setting(key: str) -> None:
    providers = Providers(
        [RemoteProvider(name="lab", base_url="http://127.0.0.1:1", api_key=key, key_setting="LAB_KEY")]
    )
    with pytest.raises(EngineUnavailable, match=r"^LAB_KEY contains characters that a key cannot have") as caught:
        providers.all[0].ask().result(10)
    assert key not in str(caught.value)
    providers.close()


def test_end_breaks_off_what_is_being_asked() -> None:
    with ScriptedOpenAI() as server:
        server.script(drips, path=MODELS)
        providers = Providers([RemoteProvider(name="lab", base_url=server.url, ask_timeout_s=60)])
        found: dict[str, Any] = {}
        asking = threading.Thread(target=lambda: found.update(providers.ask(providers.all, Cancellation())))
        asking.start()
        while not server.seen:
            time.sleep(0.005)
        providers.close()
        asking.join(10)
        assert str(found["lab"]) == "The server is shutting down."
        with pytest.raises(EngineUnavailable, match="shutting down"):
            providers.all[0].ask()


def test_slow_list_is_not_waited_for_and_is_remembered_when_it_comes() -> None:
    with ScriptedOpenAI(["a"]) as server:
        go = threading.Event()

        def waits(request: Request, fields: dict[str, Any]) -> None:
            go.wait(10)
            server.honest(request, fields)

        server.script(waits, path=MODELS)
        providers = Providers([RemoteProvider(name="lab", base_url=server.url)])
        (lab,) = providers.all
        for _ in range(2):  # the second joins the first
            told = providers.ask(providers.all, Cancellation(), patience_s=0.1)["lab"]
            assert isinstance(told, NoListing)
            assert told.is_late
        assert lab.known() is None
        go.set()
        assert lab.ask().result(10).ids == ("a",)
        known = lab.known()
        assert known is not None
        assert known.ids == ("a",)
        assert [path for path, _ in server.seen].count(MODELS) == 1
        providers.close()


def test_importing_costs_nothing_heavy() -> None:
    heavy = ("httpx", "vllm", "torch", "numpy", "PIL", "av")
    program = f"import sys, engine.remote.providers; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
