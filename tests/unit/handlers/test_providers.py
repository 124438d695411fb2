"""Models of any provider over scripted services: who is asked, with what, and what comes of it."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import GenerationCancelled
from tests.certificates import Authority
from tests.scripted_openai import (
    MODEL,
    MODELS,
    Route,
    ScriptedOpenAI,
    answers,
    drips,
    echoes_key,
    floods,
    goes_on,
    hangs_up,
    piece,
    refuses,
    said,
    streams,
    usage,
)
from tests.unit.handlers.conftest import Desk, picture
from tests.unit.media.recordings import film, recording

KEY = "sk-very-secret-0123456789"
TOOL = "generate_multimodal_response"
Json = dict[str, Any]


@pytest.fixture
def server() -> Iterator[ScriptedOpenAI]:
    """OpenAI."""
    with ScriptedOpenAI(["gpt-x", "both"], owned_by="openai") as running:
        yield running


@pytest.fixture
def lab() -> Iterator[ScriptedOpenAI]:
    """Another provider: vLLM's server."""
    with ScriptedOpenAI([MODEL, "both"]) as running:
        yield running


@pytest.fixture
def counter(server: ScriptedOpenAI, lab: ScriptedOpenAI, tmp_path: Path, make_desk: Callable[..., Desk]) -> Desk:
    """Tools with these two, the engine here, and DashScope without a key."""
    entry = {"name": "lab", "base_url": lab.url, "api_key_env": "LAB_KEY"}
    (tmp_path / "config.json").write_text(json.dumps({"providers": [entry]}))
    return make_desk(
        VLLM_CONFIG_FILE=str(tmp_path / "config.json"),
        OPENAI_BASE_URL=f"{server.url}/v1",
        OPENAI_API_KEY=KEY,
        LAB_KEY="sk-lab-0123456789",
    )


def ask(desk: Desk, **arguments: Any) -> Any:
    return desk.result(TOOL, {"prompt": "one two", **arguments})


def refusal(desk: Desk, **arguments: Any) -> str:
    return desk.error(TOOL, {"prompt": "one two", **arguments})


def test_provider_is_found_from_the_model(counter: Desk, server: ScriptedOpenAI, lab: ScriptedOpenAI) -> None:
    result = ask(counter, model=MODEL)
    assert (result.text, result.model, result.provider, result.finish_reason) == ("one two", MODEL, "lab", "stop")
    assert (result.usage.prompt_tokens, result.usage.completion_tokens, result.warnings) == (7, 3, [])
    assert result.timings.first_token_ms > 0
    assert ask(counter, model="gpt-x").provider == "openai"
    both = ask(counter, model="both")
    assert both.provider == "openai"
    assert both.warnings == ["both is also at lab; openai comes first. provider chooses."]
    assert ask(counter, model="both", provider="lab").provider == "lab"
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert set(lab.keys) == {"Bearer sk-lab-0123456789"}
    assert [path for path, _ in lab.seen].count(MODELS) == 1, "what was told is remembered"


def test_text_block_is_the_answer(counter: Desk) -> None:
    assert counter.run(TOOL, {"prompt": "one two", "model": MODEL})["content"] == [{"type": "text", "text": "one two"}]


@pytest.mark.parametrize("arguments", [{}, {"provider": "local"}, {"model": "demo-vlm"}, {"model": "fake-model"}])
def test_engine_here_is_a_provider(counter: Desk, lab: ScriptedOpenAI, arguments: Json) -> None:
    counter.engine.enqueue("from here")
    result = ask(counter, system_prompt="Be short.", seed=3, **arguments)
    assert (result.text, result.provider, result.model, result.seed) == ("from here", "local", "demo-vlm", 3)
    (conversation,) = counter.engine.conversations
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
        ({"provider": "lab"}, ["Name a model: the provider lab has scripted-vlm, both."]),
        ({"provider": "dashscope", "model": "qwen-vl-max"}, ["dashscope is not configured: set DASHSCOPE_API_KEY."]),
        (
            {"model": "qwen-vl-max"},
            ["No provider has a model 'qwen-vl-max'; asked: local, openai, lab.", "set DASHSCOPE_API_KEY."],
        ),
    ],
)
def test_choice_that_cannot_be_is_refused_with_what_there_is(counter: Desk, arguments: Json, texts: list[str]) -> None:
    said_so = refusal(counter, **arguments)
    for text in texts:
        assert text in said_so


def test_model_that_came_later_is_found(counter: Desk, lab: ScriptedOpenAI) -> None:
    ask(counter, model=MODEL)
    lab.models.append("new")
    assert ask(counter, model="new").provider == "lab"
    lab.models.append("newer")
    assert ask(counter, model="newer", provider="lab").model == "newer"


def test_one_that_does_not_answer_does_not_stop_the_others(counter: Desk, server: ScriptedOpenAI) -> None:
    server.script(refuses(500, "boom"), path=MODELS)
    assert ask(counter, model=MODEL).provider == "lab"
    assert "(HTTP 500): boom" in refusal(counter, model="gpt-x")


def test_request_says_only_what_was_asked_for(counter: Desk, server: ScriptedOpenAI, lab: ScriptedOpenAI) -> None:
    ask(counter, model="gpt-x")
    assert server.chats()[-1] == {
        "model": "gpt-x",
        "messages": [{"role": "user", "content": "one two"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": 512,
    }
    given: Json = {"temperature": 1, "top_p": 0.5, "max_tokens": 9, "seed": 4, "stop": ["x"], "presence_penalty": 0.5}
    ask(counter, model="gpt-x", system_prompt="Short.", **given)
    sent = server.chats()[-1]
    assert {name: sent[name] for name in given} == given
    assert sent["messages"][0] == {"role": "system", "content": "Short."}
    ask(counter, model=MODEL)
    assert (lab.chats()[-1]["temperature"], lab.chats()[-1]["top_k"]) == (0.7, -1), "vLLM gets this server's defaults"


def test_what_only_vllm_knows_is_refused_elsewhere(counter: Desk) -> None:
    assert "top_k: only a vLLM server knows this" in refusal(counter, model="gpt-x", top_k=5)
    assert ask(counter, model=MODEL, top_k=5).text == "one two"


def test_pictures_and_files_go_along(lab: ScriptedOpenAI, tmp_path: Path, make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(OPENAI_BASE_URL=lab.url, VLLM_ALLOWED_MEDIA_DIRS=str(tmp_path))
    contents = {
        "a.bin": picture("red"),
        "b.txt": b"Ada was here.",
        "c.bin": recording(seconds=0.3),
        "d": film(frames=4),
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    url = f"data:image/png;base64,{base64.b64encode(picture('blue')).decode()}"
    paths = [(tmp_path / "a.bin").as_uri(), *(str(tmp_path / name) for name in ("d", "b.txt", "c.bin"))]
    result = ask(desk, model=MODEL, image_urls=[url], file_paths=paths)
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


def _by_kind(parts: list[Json]) -> list[Json]:
    order = ("text", "image_url", "video_url", "input_audio")
    return sorted(parts, key=lambda part: order.index(part["type"]))


def test_text_files_stay_here_unless_a_folder_is_allowed(counter: Desk, lab: ScriptedOpenAI, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("private words")
    text = refusal(counter, model=MODEL, file_paths=[str(tmp_path / "notes.txt")])
    assert text.startswith("file_paths[0]: The file ")
    assert "VLLM_ALLOWED_MEDIA_DIRS, which is not set" in text
    assert lab.chats() == []


def test_links_out_of_the_folder_are_not_followed(
    lab: ScriptedOpenAI, tmp_path: Path, make_desk: Callable[..., Desk]
) -> None:
    allowed = tmp_path / "allowed"
    allowed.mkdir()
    (tmp_path / "private.txt").write_text("private words")
    (allowed / "link.txt").symlink_to(tmp_path / "private.txt")
    desk = make_desk(OPENAI_BASE_URL=lab.url, VLLM_ALLOWED_MEDIA_DIRS=str(allowed))
    for path in (allowed / "link.txt", tmp_path / "private.txt", allowed / ".." / "private.txt"):
        assert "outside of the folders" in refusal(desk, model=MODEL, file_paths=[str(path)])
    assert lab.chats() == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"image_urls": ["/no/such.png"]}, 'image_urls[0]: There is no file "/no/such.png".'),
        ({"file_paths": ["https://x.example/a.png"]}, "file_paths[0]: Only files on this machine are given here"),
        ({"image_urls": ["http://127.0.0.1:9/a.png"]}, "image_urls[0]: "),
        ({"file_paths": ["/proc/self/environ"]}, "file_paths[0]: "),
    ],
)
def test_what_cannot_be_read_is_named_and_nothing_is_sent(
    counter: Desk, lab: ScriptedOpenAI, arguments: Json, text: str
) -> None:
    assert text in refusal(counter, model=MODEL, **arguments)
    assert lab.chats() == []


def test_too_many_pictures_are_refused(counter: Desk) -> None:
    url = f"data:image/png;base64,{base64.b64encode(picture('blue')).decode()}"
    assert "There are 5 pictures; one prompt holds at most 4" in refusal(counter, model=MODEL, image_urls=[url] * 5)


def test_sound_is_not_for_the_engine_here(counter: Desk, tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(recording(seconds=0.3))
    text = refusal(counter, provider="local", file_paths=[str(tmp_path / "a.wav")])
    assert "takes text and pictures, no audio; another provider may." in text


def test_what_the_service_tells_of_its_models_counts(counter: Desk, lab: ScriptedOpenAI, tmp_path: Path) -> None:
    entry = {"id": "blind", "owned_by": "x", "context_length": 77, "architecture": {"input_modalities": ["text"]}}
    lab.script(answers(json.dumps({"data": [entry]}).encode()), path=MODELS)
    (tmp_path / "a.png").write_bytes(picture("red"))
    text = refusal(counter, model="blind", file_paths=[str(tmp_path / "a.png")])
    assert "The model blind of lab takes no image." in text
    (lab_info,) = counter.result("list_available_providers", {"provider": "lab"}).providers
    (model,) = lab_info.models
    assert (model.id, model.modalities, model.context_length) == ("blind", ["text"], 77)


@pytest.mark.parametrize("status", [401, 403, 404, 405, 500])
def test_models_that_are_not_told_do_not_stop_one_that_is_named(
    counter: Desk, server: ScriptedOpenAI, status: int
) -> None:
    server.script(refuses(status, "no list"), path=MODELS)
    result = ask(counter, provider="openai", model="anything")
    assert (result.text, result.model) == ("one two", "anything")
    told = [warning for warning in result.warnings if "did not tell its models" in warning]
    assert len(told) == (0 if status in (404, 405) else 1)
    ask(counter, provider="openai", model="anything")
    assert [path for path, _ in server.seen].count(MODELS) == 1, "it is not asked in vain before every answer"


def test_models_of_the_file_are_found_where_the_service_tells_none(
    lab: ScriptedOpenAI, tmp_path: Path, make_desk: Callable[..., Desk]
) -> None:
    lab.script(answers(b"<html>no</html>", 500), path=MODELS)
    entry = {"name": "lab", "base_url": f"{lab.url}/v1/chat/completions", "models": ["one", "two"]}
    (tmp_path / "config.json").write_text(json.dumps({"providers": [entry]}))
    desk = make_desk(VLLM_CONFIG_FILE=str(tmp_path / "config.json"))
    assert ask(desk, model="two").provider == "lab"
    (info,) = desk.result("list_available_providers", {"provider": "lab"}).providers
    assert ([model.id for model in info.models], info.reachable) == (["one", "two"], False)
    assert "(HTTP 500)" in info.error


def test_name_that_is_not_listed_is_asked_for_where_a_setting_says_so(
    server: ScriptedOpenAI, tmp_path: Path, make_desk: Callable[..., Desk]
) -> None:
    said_so = refusal(make_desk(OPENAI_BASE_URL=server.url), provider="openai", model="gpt-x:nitro")
    assert "has no model 'gpt-x:nitro'; it has gpt-x, both. If it takes that name" in said_so
    assert "VLLM_UNLISTED_MODELS=1" in said_so
    assert "VLLM_CONFIG_FILE" in said_so
    desk = make_desk(OPENAI_BASE_URL=server.url, VLLM_UNLISTED_MODELS="1")
    assert ask(desk, provider="openai", model="gpt-x:nitro").text == "one two"
    assert server.chats()[-1]["model"] == "gpt-x:nitro"
    entry = {"name": "lab", "base_url": server.url, "unlisted_models": True}
    (tmp_path / "config.json").write_text(json.dumps({"providers": [entry]}))
    desk = make_desk(VLLM_CONFIG_FILE=str(tmp_path / "config.json"))
    assert ask(desk, provider="lab", model="gpt-x:nitro").text == "one two"


def test_what_a_service_does_not_take_is_left_out_and_said(counter: Desk, server: ScriptedOpenAI) -> None:
    server.script(refuses(400, "Unsupported parameter: 'temperature'"), server.honest)
    result = ask(counter, model="gpt-x", temperature=0.5)
    assert result.text == "one two"
    assert result.warnings == ["The server does not take temperature: left out of the request."]


def test_end_by_a_filter_and_an_empty_answer_are_said(counter: Desk, server: ScriptedOpenAI) -> None:
    server.script(streams(piece(content="Once upon"), piece("content_filter"), usage(), "[DONE]"))
    result = ask(counter, model="gpt-x")
    assert (result.text, result.finish_reason) == ("Once upon", "content_filter")
    assert result.warnings == ["The provider's content filter cut the answer off."]
    server.script(streams(piece(content=""), piece("stop"), usage(), "[DONE]"))
    assert ask(counter, model="gpt-x").warnings == ["The answer is empty."]


def test_key_of_another_region_is_told_with_both_settings(make_desk: Callable[..., Desk]) -> None:
    from engine.remote_failures import server_of

    lab = server_of(
        "https://dashscope.aliyuncs.com/compatible-mode/v1",
        KEY,
        address_setting="DASHSCOPE_BASE_URL",
        key_setting="DASHSCOPE_API_KEY",
    )
    told = str(lab.failure(lab.refusal(401, {}, b'{"code":"InvalidApiKey","message":"Invalid API-key provided."}')))
    assert "Set DASHSCOPE_API_KEY to one that it knows, or DASHSCOPE_BASE_URL to the server" in told
    assert "A key holds in its own region only. It says: Invalid API-key provided." in told


def test_authority_of_a_company_is_trusted(
    tmp_path: Path, make_desk: Callable[..., Desk], server: ScriptedOpenAI
) -> None:
    authority = Authority(tmp_path)
    server.socket = authority.server_context("localhost").wrap_socket(server.socket, server_side=True)
    url = f"https://localhost:{server.server_address[1]}/v1"
    said_so = refusal(make_desk(OPENAI_BASE_URL=url), provider="openai", model="gpt-x")
    assert "it is not trusted" in said_so
    assert "VLLM_CA_FILE (or SSL_CERT_FILE)" in said_so
    for name in ("VLLM_CA_FILE", "SSL_CERT_FILE"):
        desk = make_desk(OPENAI_BASE_URL=url, **{name: str(authority.file)})
        assert ask(desk, provider="openai", model="gpt-x").text == "one two"


# Failures


@pytest.mark.parametrize(
    ("route", "text"),
    [
        (refuses(401, f"Incorrect API key provided: {KEY}"), "does not take the key (HTTP 401). Set OPENAI_API_KEY to"),
        (refuses(403, f"no access for {KEY}"), "refuses this request (HTTP 403): no access for …."),
        (answers(b"", 403), "does not take the key (HTTP 403). Set OPENAI_API_KEY to"),
        (refuses(404, "The model does not exist."), "Check that the model gpt-x is one for chat."),
        (refuses(429, "slow down", Retry_After="0"), "too many requests (HTTP 429): slow down. Try again later."),
        (refuses(429, "slow down"), "too many requests (HTTP 429): slow down. Try again later."),
        (refuses(429, "slow down", Retry_After="90"), "It asks to wait 90 s."),
        (refuses(500, "boom"), "failed (HTTP 500): boom. Try again."),
        (hangs_up, "was lost before its answer was complete"),
        (streams(piece(content="half")), "was lost before its answer was complete"),
        (streams(piece(content="half"), "{no json"), "not what an OpenAI-compatible server sends"),
        (answers(b"{}"), "Check OPENAI_BASE_URL"),
        (answers(b"<html>hi</html>", Content_Type="text/html"), "answered text/html in place of a stream"),
        (floods, "longer than it can be"),
        (echoes_key(400), "refuses this request (HTTP 400)"),
        (echoes_key(500), "failed (HTTP 500)"),
        (streams({"error": {"message": f"bad key {KEY}", "code": 500}}), "bad key …"),
        (answers(b"", 302, Location=f"http://other.example/?key={KEY}"), "redirects to another address, which is not"),
    ],
)
def test_failure_is_told_and_shows_no_key(
    counter: Desk,
    server: ScriptedOpenAI,
    route: Route,
    text: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engine.openai_client.FIRST_WAIT_S", 0.02)
    server.script(route)
    with caplog.at_level(logging.DEBUG):
        said_so = refusal(counter, model="gpt-x")
    assert text in said_so
    assert KEY not in said_so + caplog.text
    server.script(server.honest)
    assert ask(counter, model="gpt-x").text == "one two"


def test_key_is_sent_nowhere_else(counter: Desk, server: ScriptedOpenAI, lab: ScriptedOpenAI) -> None:
    server.script(answers(b"", 307, Location=f"{lab.url}/v1/chat/completions"))
    assert "is not followed" in refusal(counter, model="gpt-x")
    assert f"Bearer {KEY}" not in lab.keys


@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_key_in_an_answer_is_hidden_also_in_progress(counter: Desk, server: ScriptedOpenAI, cut: int) -> None:
    words = f"Your key is {KEY}, isn't it?"
    pieces = [piece(content=words[start : start + cut]) for start in range(0, len(words), cut)]
    thoughts = piece(reasoning=f"I know {KEY}")
    server.script(streams(thoughts, *pieces, piece("stop"), usage(), "[DONE]", delay_s=0.06 if cut == 7 else 0))
    result = counter.run(TOOL, {"prompt": "?", "model": "gpt-x"}, progress_token=1)
    assert result["structuredContent"].text == "Your key is …, isn't it?"
    assert result["structuredContent"].reasoning == "I know …"
    assert KEY not in str(result) + str(counter.sent)
    assert "".join(sent["params"].get("message", "") for sent in counter.sent).endswith("Your key is …, isn't it?")


def test_key_in_names_of_models_is_hidden(counter: Desk, server: ScriptedOpenAI) -> None:
    server.models = [f"model-{KEY}"]
    assert KEY not in str(counter.run("list_available_providers"))
    assert KEY not in refusal(counter, model="gpt-x", provider="openai")


def test_slow_answer_ends_at_the_deadline(counter: Desk, server: ScriptedOpenAI) -> None:
    server.script(goes_on)
    result = ask(counter, model="gpt-x", timeout_s=1.0)
    assert (result.finish_reason, result.text[:3], result.usage) == ("timeout", "on ", None)


def test_silent_server_is_given_up(lab: ScriptedOpenAI, tmp_path: Path, make_desk: Callable[..., Desk]) -> None:
    entry = {"name": "lab", "base_url": lab.url, "silence_s": 1}
    (tmp_path / "config.json").write_text(json.dumps({"providers": [entry]}))
    lab.script(drips)
    text = refusal(make_desk(VLLM_CONFIG_FILE=str(tmp_path / "config.json")), model=MODEL)
    assert "sent nothing of an answer for 1 s" in text


def test_cancelled_call_stops_there(counter: Desk, server: ScriptedOpenAI) -> None:
    server.script(goes_on)
    call = counter.make_call(TOOL, {"prompt": "?", "model": "gpt-x"}, progress_token=1)

    def stop_at_text(message: Json) -> None:
        if message["params"].get("message", "").startswith("on "):
            call.stop()

    call._send = stop_at_text
    assert counter.toolbox.run(call)["isError"]


def test_asking_can_be_cancelled(counter: Desk, server: ScriptedOpenAI) -> None:
    server.script(drips, path=MODELS)
    with pytest.raises(GenerationCancelled):
        counter.services.providers.ask(counter.services.providers.all, lambda: bool(server.seen))


def test_answer_without_usage_has_none(counter: Desk, server: ScriptedOpenAI) -> None:
    server.script(streams(piece(content="a"), piece("length"), "[DONE]"))
    result = ask(counter, model="gpt-x")
    assert result.usage is None
    assert result.warnings == ["The provider did not tell how many tokens it counted."]


def test_answer_that_was_all_reasoning_says_so(counter: Desk, server: ScriptedOpenAI) -> None:
    server.script(streams(piece(reasoning="hm"), piece("length"), usage(), "[DONE]"))
    result = ask(counter, model="gpt-x")
    assert (result.text, result.reasoning) == ("", "hm")
    assert "before any text of it came" in result.warnings[0]


def test_progress_adds_up_to_the_text(counter: Desk, server: ScriptedOpenAI) -> None:
    server.script(streams(*said("one", "two", "three"), delay_s=0.06))
    counter.run(TOOL, {"prompt": "?", "model": "gpt-x"}, progress_token=1)
    assert "".join(sent["params"].get("message", "") for sent in counter.sent) == "one two three"
    assert len(counter.sent) > 1


# The list


def test_provider_that_does_not_tell_its_models_delays_nobody_for_long(
    counter: Desk, server: ScriptedOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handlers.provider_choice.PATIENCE_S", 0.1)
    server.script(drips, path=MODELS)
    assert ask(counter, model="both").provider == "lab"
    result = ask(counter, model="gpt-x", provider="openai")
    assert (result.text, result.provider) == ("one two", "openai")
    assert any("slow to tell its models" in warning for warning in result.warnings)
    assert [path for path, _ in server.seen].count(MODELS) == 1


def test_all_providers_are_listed_with_what_they_have(counter: Desk, server: ScriptedOpenAI) -> None:
    found = {each.name: each for each in counter.result("list_available_providers").providers}
    assert list(found) == ["local", "openai", "dashscope", "lab"]
    local, openai, dashscope, lab = found.values()
    assert (local.configured, local.reachable, local.default_model) == (True, None, "demo-vlm")
    assert (openai.configured, openai.reachable, openai.error, openai.total_models) == (True, True, None, 2)
    assert [model.id for model in openai.models] == ["gpt-x", "both"]
    assert openai.base_url == server.url
    assert (dashscope.configured, dashscope.reachable, dashscope.models) == (False, None, [])
    assert dashscope.error == "The provider dashscope is not configured: set DASHSCOPE_API_KEY."
    assert [(model.id, model.context_length) for model in lab.models] == [(MODEL, 2048), ("both", 2048)]
    counter.engine.load()
    (local,) = counter.result("list_available_providers", {"provider": "local"}).providers
    assert (local.reachable, local.models[0].modalities) == (True, ["text", "image"])


def test_one_that_fails_says_why_and_the_others_are_listed(
    counter: Desk, server: ScriptedOpenAI, lab: ScriptedOpenAI
) -> None:
    server.script(refuses(401, f"bad key {KEY}"), path=MODELS)
    lab.script(answers(b'{"detail":"Not Found"}', 404), path=MODELS)
    found = {each.name: each for each in counter.result("list_available_providers").providers}
    assert (found["openai"].reachable, found["openai"].models) == (False, [])
    assert "does not take the key (HTTP 401). Set OPENAI_API_KEY" in found["openai"].error
    assert (found["lab"].reachable, found["lab"].total_models) == (True, None)
    assert found["lab"].error == "It does not tell its models: name one."
    assert ask(counter, provider="lab", model="anything").text == "one two"


def test_unknown_provider_is_refused(counter: Desk) -> None:
    text = counter.error("list_available_providers", {"provider": "x"})
    assert "no provider 'x'; there are local, openai, dashscope, lab." in text


def test_models_of_the_file_are_the_only_ones(
    lab: ScriptedOpenAI, tmp_path: Path, make_desk: Callable[..., Desk]
) -> None:
    models = [{"id": MODEL, "modalities": ["text"], "context_length": 50}, "unlisted"]
    entry = {"name": "lab", "base_url": lab.url, "models": models, "default_model": MODEL}
    (tmp_path / "config.json").write_text(json.dumps({"providers": [entry]}))
    desk = make_desk(VLLM_CONFIG_FILE=str(tmp_path / "config.json"))
    (info,) = desk.result("list_available_providers", {"provider": "lab"}).providers
    assert [(model.id, model.modalities, model.context_length) for model in info.models] == [
        (MODEL, ["text"], 50),
        ("unlisted", None, None),
    ]
    assert ask(desk, provider="lab").model == MODEL
    assert ask(desk, model="unlisted").provider == "lab"
    assert "has no model 'both'" in refusal(desk, provider="lab", model="both")


def test_server_in_the_engines_place_is_a_provider(lab: ScriptedOpenAI, make_desk: Callable[..., Desk]) -> None:
    desk = make_desk(VLLM_BASE_URL=lab.url, VLLM_REMOTE_API_KEY=KEY)
    assert [each.name for each in desk.result("list_available_providers").providers] == ["vllm", "openai", "dashscope"]
    result = ask(desk)
    assert (result.provider, result.model) == ("vllm", MODEL), "the first, as chat_completion takes"
    assert desk.engine.batches == []
    assert "there are vllm, openai, dashscope" in refusal(desk, provider="local")


def test_nobody_is_asked_before_a_call(counter: Desk, server: ScriptedOpenAI, lab: ScriptedOpenAI) -> None:
    counter.toolbox.listing()
    counter.result("model_info")
    assert (server.seen, lab.seen) == ([], [])
    assert "providers" not in counter.services.__dict__
