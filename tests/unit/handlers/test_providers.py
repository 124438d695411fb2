"""Choosing a provider and a model, and what is sent with a prompt."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.certificates import Authority
from tests.scripted_openai import (
    MODEL,
    MODELS,
    ScriptedOpenAI,
    answers,
    piece,
    refuses,
    streams,
    usage,
)
from tests.unit.handlers.provider_calls import KEY, TOOL, Json, _by_kind, ask, refusal
from tests.unit.handlers.tool_client import Client, make_image
from tests.unit.media.sample_media import audio_file, video_file

pytestmark = pytest.mark.slow


def test_provider_is_found_from_the_model(provider_client: Client, server: ScriptedOpenAI, lab: ScriptedOpenAI) -> None:
    result = ask(provider_client, model=MODEL)
    assert (result.text, result.model, result.provider, result.finish_reason) == ("one two", MODEL, "lab", "stop")
    assert (result.usage.prompt_tokens, result.usage.completion_tokens, result.warnings) == (7, 3, [])
    assert result.timings.first_token_ms > 0
    assert ask(provider_client, model="gpt-x").provider == "openai"
    both = ask(provider_client, model="both")
    assert both.provider == "openai"
    assert both.warnings == ["both is also available at lab; openai is used unless provider is set."]
    assert ask(provider_client, model="both", provider="lab").provider == "lab"
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert set(lab.keys) == {"Bearer sk-lab-0123456789"}
    assert [path for path, _ in lab.seen].count(MODELS) == 1, "what was told is remembered"


def test_text_block_is_the_answer(provider_client: Client) -> None:
    assert provider_client.run(TOOL, {"prompt": "one two", "model": MODEL})["content"] == [
        {"type": "text", "text": "one two"}
    ]


@pytest.mark.parametrize("arguments", [{}, {"provider": "local"}, {"model": "demo-vlm"}, {"model": "fake-model"}])
def test_engine_here_is_a_provider(provider_client: Client, lab: ScriptedOpenAI, arguments: Json) -> None:
    provider_client.engine.enqueue("from here")
    result = ask(provider_client, system_prompt="Be short.", seed=3, **arguments)
    assert (result.text, result.provider, result.model, result.seed) == ("from here", "local", "demo-vlm", 3)
    (conversation,) = provider_client.engine.conversations
    assert [(message.role, message.text) for message in conversation.messages] == [
        ("system", "Be short."),
        ("user", "one two"),
    ]
    assert lab.seen == [], "nobody else was asked"


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        ({"provider": "nobody"}, ["no provider 'nobody'; there are local, openai, dashscope, lab."]),
        ({"provider": "local", "model": "gpt-x"}, ["local has no model 'gpt-x'; it has demo-vlm."]),
        ({"provider": "lab", "model": "gpt-x"}, ["lab has no model 'gpt-x'; it has scripted-vlm, both."]),
        ({"provider": "lab"}, ["Set model: the provider lab has scripted-vlm, both."]),
        ({"provider": "dashscope", "model": "qwen-vl-max"}, ["dashscope is not configured: set DASHSCOPE_API_KEY."]),
        (
            {"model": "qwen-vl-max"},
            ["No provider has a model 'qwen-vl-max'; searched: local, openai, lab.", "set DASHSCOPE_API_KEY."],
        ),
    ],
)
def test_choice_that_cannot_be_is_refused_with_what_there_is(
    provider_client: Client, arguments: Json, texts: list[str]
) -> None:
    said_so = refusal(provider_client, **arguments)
    for text in texts:
        assert text in said_so


def test_model_that_came_later_is_found(provider_client: Client, lab: ScriptedOpenAI) -> None:
    ask(provider_client, model=MODEL)
    lab.models.append("new")
    assert ask(provider_client, model="new").provider == "lab"
    lab.models.append("newer")
    assert ask(provider_client, model="newer", provider="lab").model == "newer"


def test_one_that_does_not_answer_does_not_stop_the_others(provider_client: Client, server: ScriptedOpenAI) -> None:
    server.script(refuses(500, "boom"), path=MODELS)
    assert ask(provider_client, model=MODEL).provider == "lab"
    assert "(HTTP 500): boom" in refusal(provider_client, model="gpt-x")


def test_request_says_only_what_was_asked_for(
    provider_client: Client, server: ScriptedOpenAI, lab: ScriptedOpenAI
) -> None:
    ask(provider_client, model="gpt-x")
    assert server.chats()[-1] == {
        "model": "gpt-x",
        "messages": [{"role": "user", "content": "one two"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 512,
    }
    given: Json = {"temperature": 1, "top_p": 0.5, "max_tokens": 9, "seed": 4, "stop": ["x"], "presence_penalty": 0.5}
    ask(provider_client, model="gpt-x", system_prompt="Short.", **given)
    sent = server.chats()[-1]
    assert {name: sent[name] for name in given} == given
    assert sent["messages"][0] == {"role": "system", "content": "Short."}
    ask(provider_client, model=MODEL)
    assert (lab.chats()[-1]["temperature"], lab.chats()[-1]["top_k"]) == (0.7, -1), "vLLM gets this server's defaults"


def test_what_only_vllm_knows_is_refused_elsewhere(provider_client: Client) -> None:
    assert "top_k: only a vLLM server accepts this" in refusal(provider_client, model="gpt-x", top_k=5)
    assert ask(provider_client, model=MODEL, top_k=5).text == "one two"


def test_images_and_files_go_along(lab: ScriptedOpenAI, tmp_path: Path, make_client: Callable[..., Client]) -> None:
    client = make_client(OPENAI_BASE_URL=lab.url, VLLM_ALLOWED_MEDIA_DIRS=str(tmp_path))
    contents = {
        "a.bin": make_image("red"),
        "b.txt": b"Ada was here.",
        "c.bin": audio_file(seconds=0.3),
        "d": video_file(frames=4),
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    url = f"data:image/png;base64,{base64.b64encode(make_image('blue')).decode()}"
    paths = [(tmp_path / "a.bin").as_uri(), *(str(tmp_path / name) for name in ("d", "b.txt", "c.bin"))]
    result = ask(client, model=MODEL, image_urls=[url], file_paths=paths)
    assert [(each.source, each.kind) for each in result.attachments] == [
        ("image_urls[0]", "image"),
        ("file_paths[0]", "image"),
        ("file_paths[1]", "video"),
        ("file_paths[2]", "text"),
        ("file_paths[3]", "audio"),
    ]
    text, first, second, video, audio = _by_kind(lab.chats()[-1]["messages"][-1]["content"])
    assert text["text"] == "one two\n\n[File 1: b.txt]\nAda was here.\n[End of file 1]"
    assert first["image_url"]["url"] != second["image_url"]["url"]
    assert base64.b64decode(video["video_url"]["url"].removeprefix("data:video/mp4;base64,")) == contents["d"]
    assert audio["input_audio"]["format"] == "wav"
    assert base64.b64decode(audio["input_audio"]["data"])[:4] == b"RIFF"
    assert len(result.warnings) == 3, "the server does not tell what its model takes"


def test_text_files_stay_here_unless_a_folder_is_allowed(
    provider_client: Client, lab: ScriptedOpenAI, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("private words")
    text = refusal(provider_client, model=MODEL, file_paths=[str(tmp_path / "notes.txt")])
    assert text.startswith("file_paths[0]: The file ")
    assert "VLLM_ALLOWED_MEDIA_DIRS, which is not set" in text
    assert lab.chats() == []


def test_links_out_of_the_folder_are_not_followed(
    lab: ScriptedOpenAI, tmp_path: Path, make_client: Callable[..., Client]
) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (tmp_path / "private.txt").write_text("private words")
    (allowed / "link.txt").symlink_to(tmp_path / "private.txt")
    client = make_client(OPENAI_BASE_URL=lab.url, VLLM_ALLOWED_MEDIA_DIRS=str(allowed))
    for path in (allowed / "link.txt", tmp_path / "private.txt", allowed / ".." / "private.txt"):
        assert "outside the folders" in refusal(client, model=MODEL, file_paths=[str(path)])
    assert lab.chats() == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"image_urls": ["/no/such.png"]}, 'image_urls[0]: There is no file "/no/such.png".'),
        (
            {"file_paths": ["https://x.example/a.png"]},
            "file_paths[0]: Only paths of files on this machine are allowed here",
        ),
        ({"image_urls": ["http://127.0.0.1:9/a.png"]}, "image_urls[0]: "),
        ({"file_paths": ["/proc/self/environ"]}, "file_paths[0]: "),
    ],
)
def test_what_cannot_be_read_is_named_and_nothing_is_sent(
    provider_client: Client, lab: ScriptedOpenAI, arguments: Json, text: str
) -> None:
    assert text in refusal(provider_client, model=MODEL, **arguments)
    assert lab.chats() == []


def test_too_many_images_are_refused(provider_client: Client) -> None:
    url = f"data:image/png;base64,{base64.b64encode(make_image('blue')).decode()}"
    assert "There are 5 images; one prompt holds at most 4" in refusal(
        provider_client, model=MODEL, image_urls=[url] * 5
    )


def test_sound_is_not_for_the_engine_here(provider_client: Client, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(audio_file(seconds=0.3))
    text = refusal(provider_client, provider="local", file_paths=[str(tmp_path / "a.wav")])
    assert "accepts text and images, no audio; another provider may." in text


def test_engine_here_gets_audio_and_videos_if_its_model_is_known_to_take_them(
    provider_client: Client, tmp_path: Path
) -> None:
    (tmp_path / "a.wav").write_bytes(audio_file(seconds=0.3))
    (tmp_path / "a.mp4").write_bytes(video_file())
    provider_client.engine.hears = provider_client.engine.watches = True
    provider_client.engine.load()
    arguments = {"prompt": "What?", "file_paths": [str(tmp_path / "a.wav"), str(tmp_path / "a.mp4")]}
    result = provider_client.result("generate_multimodal_response", {"provider": "local", **arguments})
    assert [(each.kind, each.duration_s) for each in result.attachments] == [("audio", 0.3), ("video", 1.0)]
    assert all(each.estimated_tokens for each in result.attachments)
    (message,) = provider_client.engine.conversations[-1].messages
    assert [part.kind for part in message.media] == ["audio", "video"]
    valid = provider_client.result("validate_multimodal_request", {"provider": "local", **arguments})
    assert valid.valid
    assert valid.modalities == ["text", "image", "audio", "video"]
    provider_client.engine.hears = False
    refused = refusal(provider_client, provider="local", file_paths=arguments["file_paths"])
    assert "no audio; another provider may." in refused


def test_what_the_service_tells_of_its_models_counts(
    provider_client: Client, lab: ScriptedOpenAI, tmp_path: Path
) -> None:
    entry = {"id": "blind", "owned_by": "x", "context_length": 77, "architecture": {"input_modalities": ["text"]}}
    lab.script(answers(json.dumps({"data": [entry]}).encode()), path=MODELS)
    (tmp_path / "a.png").write_bytes(make_image("red"))
    text = refusal(provider_client, model="blind", file_paths=[str(tmp_path / "a.png")])
    assert "The model blind of lab accepts no image." in text
    (lab_info,) = provider_client.result("list_available_providers", {"provider": "lab"}).providers
    (model,) = lab_info.models
    assert (model.id, model.modalities, model.context_length) == ("blind", ["text"], 77)


@pytest.mark.parametrize("status", [401, 403, 404, 405, 500])
def test_models_that_are_not_told_do_not_stop_one_that_is_named(
    provider_client: Client, server: ScriptedOpenAI, status: int
) -> None:
    server.script(refuses(status, "no list"), path=MODELS)
    result = ask(provider_client, provider="openai", model="anything")
    assert (result.text, result.model) == ("one two", "anything")
    told = [warning for warning in result.warnings if "did not list its models" in warning]
    assert len(told) == (0 if status in (404, 405) else 1)
    ask(provider_client, provider="openai", model="anything")
    assert [path for path, _ in server.seen].count(MODELS) == 1, "it is not asked in vain before every answer"


def test_models_of_the_file_are_found_where_the_service_tells_none(
    lab: ScriptedOpenAI, tmp_path: Path, make_client: Callable[..., Client]
) -> None:
    lab.script(answers(b"<html>no</html>", 500), path=MODELS)
    entry = {"name": "lab", "base_url": f"{lab.url}/v1/chat/completions", "models": ["one", "two"]}
    (tmp_path / "config.json").write_text(json.dumps({"providers": [entry]}))
    client = make_client(VLLM_CONFIG_FILE=str(tmp_path / "config.json"))
    assert ask(client, model="two").provider == "lab"
    (info,) = client.result("list_available_providers", {"provider": "lab"}).providers
    assert ([model.id for model in info.models], info.reachable) == (["one", "two"], False)
    assert "(HTTP 500)" in info.error


def test_name_that_is_not_listed_is_asked_for_where_a_setting_says_so(
    server: ScriptedOpenAI, tmp_path: Path, make_client: Callable[..., Client]
) -> None:
    said_so = refusal(make_client(OPENAI_BASE_URL=server.url), provider="openai", model="gpt-x:nitro")
    assert "has no model 'gpt-x:nitro'; it has gpt-x, both. If it accepts names" in said_so
    assert "VLLM_UNLISTED_MODELS=1" in said_so
    assert "VLLM_CONFIG_FILE" in said_so
    client = make_client(OPENAI_BASE_URL=server.url, VLLM_UNLISTED_MODELS="1")
    assert ask(client, provider="openai", model="gpt-x:nitro").text == "one two"
    assert server.chats()[-1]["model"] == "gpt-x:nitro"
    entry = {"name": "lab", "base_url": server.url, "unlisted_models": True}
    (tmp_path / "config.json").write_text(json.dumps({"providers": [entry]}))
    client = make_client(VLLM_CONFIG_FILE=str(tmp_path / "config.json"))
    assert ask(client, provider="lab", model="gpt-x:nitro").text == "one two"


def test_what_a_service_does_not_take_is_left_out_and_said(provider_client: Client, server: ScriptedOpenAI) -> None:
    server.script(refuses(400, "Unsupported parameter: 'temperature'"), server.honest)
    result = ask(provider_client, model="gpt-x", temperature=0.5)
    assert result.text == "one two"
    assert result.warnings == ["The server does not accept temperature: left out of the request."]


def test_end_by_a_filter_and_an_empty_answer_are_said(provider_client: Client, server: ScriptedOpenAI) -> None:
    server.script(streams(piece(content="Once upon"), piece("content_filter"), usage(), "[DONE]"))
    result = ask(provider_client, model="gpt-x")
    assert (result.text, result.finish_reason) == ("Once upon", "content_filter")
    assert result.warnings == ["The provider's content filter cut off the reply."]
    server.script(streams(piece(content=""), piece("stop"), usage(), "[DONE]"))
    assert ask(provider_client, model="gpt-x").warnings == ["The reply is empty."]


def test_key_of_another_region_is_told_with_both_settings(make_client: Callable[..., Client]) -> None:
    from engine.remote.failures import server_of

    lab = server_of(
        "https://dashscope.aliyuncs.com/compatible-mode/v1",
        KEY,
        address_setting="DASHSCOPE_BASE_URL",
        key_setting="DASHSCOPE_API_KEY",
    )
    told = str(lab.failure(lab.refusal(401, {}, b'{"code":"InvalidApiKey","message":"Invalid API-key provided."}')))
    assert "Set DASHSCOPE_API_KEY to a valid one, or DASHSCOPE_BASE_URL to the server" in told
    assert "A key is only valid in its own region. It says: Invalid API-key provided." in told


def test_authority_of_a_company_is_trusted(
    tmp_path: Path, make_client: Callable[..., Client], server: ScriptedOpenAI
) -> None:
    authority = Authority(tmp_path)
    server.socket = authority.server_context("localhost").wrap_socket(server.socket, server_side=True)
    url = f"https://localhost:{server.server_address[1]}/v1"
    said_so = refusal(make_client(OPENAI_BASE_URL=url), provider="openai", model="gpt-x")
    assert "it is not trusted" in said_so
    assert "VLLM_CA_FILE (or SSL_CERT_FILE)" in said_so
    for name in ("VLLM_CA_FILE", "SSL_CERT_FILE"):
        client = make_client(OPENAI_BASE_URL=url, **{name: str(authority.file)})
        assert ask(client, provider="openai", model="gpt-x").text == "one two"
