"""What is wrong with a request, told before anything is spent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.scripted_openai import MODEL, MODELS, ScriptedOpenAI, refuses
from tests.unit.handlers.tool_client import Client, make_image
from tests.unit.media.sample_media import audio_file, video_file

Json = dict[str, Any]
SEES = {"id": "sees", "modalities": ["text", "image"], "context_length": 600}
HEARS = {"id": "hears", "modalities": ["text", "audio"], "context_length": 100_000}


@pytest.fixture
def server() -> Iterator[ScriptedOpenAI]:
    with ScriptedOpenAI(owned_by="somebody") as running:
        yield running


@pytest.fixture
def provider_client(server: ScriptedOpenAI, tmp_path: Path, make_client: Callable[..., Client]) -> Client:
    """Tools with a service whose models are told by a file, and one that tells them itself."""
    entry = {"name": "lab", "base_url": server.url, "models": [SEES, HEARS]}
    (tmp_path / "config.json").write_text(json.dumps({"providers": [entry]}))
    return make_client(
        VLLM_CONFIG_FILE=str(tmp_path / "config.json"),
        OPENAI_BASE_URL=server.url,
        VLLM_ALLOWED_MEDIA_DIRS=str(tmp_path),
    )


@pytest.fixture
def files(tmp_path: Path) -> Json:
    """A file of each kind by its path."""
    contents = {
        "picture": make_image("red"),
        "sound": audio_file(seconds=0.5),
        "film": video_file(frames=8),
        "words": "Grüße an Ada".encode(),
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    return {name: str(tmp_path / name) for name in contents}


def check(client: Client, **arguments: Any) -> Any:
    return client.result("validate_multimodal_request", {"prompt": "What is this?", **arguments})


def test_good_request_is_valid_and_nothing_is_generated(
    provider_client: Client, server: ScriptedOpenAI, files: Json
) -> None:
    found = check(provider_client, model="sees", file_paths=[files["picture"], files["words"]], max_tokens=50)
    assert (found.valid, found.errors, found.warnings) == (True, [], [])
    assert (found.provider, found.model, found.context_length) == ("lab", "sees", 600)
    assert (found.modalities, found.max_tokens) == (["text", "image"], 50)
    image, text = found.attachments
    assert (image.kind, image.width, image.height, image.n_bytes) == ("image", 8, 6, len(make_image("red")))
    assert (text.kind, text.characters, text.n_bytes) == ("text", 12, 14)
    assert found.estimated_prompt_tokens == 4 + 1 + 5
    assert server.chats() == []
    assert provider_client.engine.batches == []


def test_sizes_are_measured(provider_client: Client, files: Json) -> None:
    found = check(provider_client, model="hears", file_paths=[files["sound"]])
    (sound,) = found.attachments
    assert found.valid
    assert sound.duration_s == pytest.approx(0.5, abs=0.05)
    (clip,) = check(provider_client, model=MODEL, file_paths=[files["film"]]).attachments
    assert (clip.kind, clip.width > 0, clip.duration_s > 0) == ("video", True, True)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"model": "nope"}, "No provider has a model 'nope'; searched: local, openai, lab."),
        ({"model": "nope", "provider": "lab"}, "The provider lab has no model 'nope'; it has sees, hears."),
        ({"provider": "nobody"}, "There is no provider 'nobody'"),
        ({"provider": "dashscope", "model": "qwen-vl-max"}, "set DASHSCOPE_API_KEY."),
        ({"provider": "lab"}, "Set model: the provider lab has sees, hears."),
        ({"model": "sees", "file_paths": ["sound"]}, "The model sees of lab accepts no audio. Choose another model."),
        ({"model": "hears", "file_paths": ["film"]}, "The model hears of lab accepts no video."),
        ({"model": "hears", "file_paths": ["picture"]}, "The model hears of lab accepts no image."),
        ({"provider": "local", "file_paths": ["film"]}, "accepts text and images, no video"),
        ({"model": "sees", "file_paths": ["/no/such/file"]}, "file_paths[0]: "),
        ({"model": "sees", "image_urls": ["data:image/png;base64,AAAA"]}, "image_urls[0]: This is not an image"),
        ({"model": "sees", "file_paths": ["picture"] * 5}, "There are 5 images; one prompt holds at most 4"),
        ({"model": "sees", "temperature": 5}, "arguments.temperature: expected float <= 2.0."),
        ({"model": "sees", "max_tokens": 0}, "arguments.max_tokens: expected int >= 1."),
        ({"model": "sees", "min_tokens": 9, "max_tokens": 5}, "arguments.min_tokens: 9 is more than max_tokens (5)."),
        ({"model": "sees", "prompt": ""}, "arguments.prompt: "),
        ({"model": ""}, "arguments.model: "),
        ({"model": "sees", "image_urls": ["x"] * 65}, "arguments.image_urls: "),
        ({"model": "sees", "top_k": 5}, "top_k: only a vLLM server accepts this"),
    ],
)
def test_bad_request_is_a_result_that_says_why(
    provider_client: Client, server: ScriptedOpenAI, files: Json, arguments: Json, error: str
) -> None:
    paths = [files.get(path, path) for path in arguments.get("file_paths", [])]
    found = check(provider_client, **{**arguments, "file_paths": paths})
    assert not found.valid
    assert error in " ".join(found.errors)
    assert server.chats() == []


def test_all_that_is_wrong_is_told_at_once(provider_client: Client) -> None:
    found = check(provider_client, provider="dashscope", temperature=9, image_urls=["/no/such.png"])
    assert len(found.errors) == 3


def test_what_is_not_known_is_a_warning(provider_client: Client, files: Json) -> None:
    found = check(provider_client, model=MODEL, file_paths=[files["picture"]])
    assert found.valid
    assert found.modalities is None
    assert found.warnings == [
        f"{MODEL} of openai: the provider does not report the model's modalities, so it may not accept image."
    ]


def test_too_little_room_is_a_warning(provider_client: Client) -> None:
    found = check(provider_client, model="sees", prompt="word " * 400)
    assert found.valid
    assert found.warnings == [
        "About 500 prompt tokens and a reply of up to 512 may exceed the model's context of 600 tokens."
    ]


def test_service_that_does_not_tell_its_models_is_an_error_only_without_a_name(
    provider_client: Client, server: ScriptedOpenAI
) -> None:
    server.script(refuses(500, "boom"), path=MODELS)
    found = check(provider_client, provider="openai")
    assert not found.valid
    assert "(HTTP 500): boom" in found.errors[0]
    found = check(provider_client, provider="openai", model=MODEL)
    assert found.valid
    assert "(HTTP 500): boom" in found.warnings[0]


def test_engine_here_is_checked_without_loading_it(provider_client: Client, files: Json) -> None:
    found = check(provider_client, file_paths=[files["picture"]])
    assert (found.valid, found.provider, found.model) == (True, "local", "demo-vlm")
    assert provider_client.engine.n_loads == 0


@pytest.mark.parametrize(
    ("arguments", "what"), [({"prompt": 5}, "arguments.prompt"), ({"promt": "x"}, "Did you mean prompt?")]
)
def test_what_is_no_request_at_all_is_an_error(provider_client: Client, arguments: Json, what: str) -> None:
    assert what in provider_client.error("validate_multimodal_request", arguments)
