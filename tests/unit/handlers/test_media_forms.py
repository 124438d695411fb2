"""Audio and videos in messages: every form that clients write, what is refused, and what counts in the budget."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.interface import AudioPart, EngineState, EngineStatus, VideoPart
from engine.parts import MAX_FRAME_SIDE, Media
from handlers.chat.chat import ChatArguments
from handlers.chat.media_reading import COPIES, MediaSource, call_media, refusal, video_part
from handlers.chat.message_forms import canonical_part
from mcp_protocol.tools.toolbox import ArgumentError, validated
from sandbox.budget import ByteBudget
from tests.unit.handlers.tool_client import Client, Json, user
from tests.unit.media.numbered_video import number_in, numbered_video
from tests.unit.media.sample_media import tone, tone_file

SOUND = tone_file()
CLIP = numbered_video(40, 8)
MIME_TYPES = {"audio": "audio/wav", "video": "video/mp4"}
FILES = {"audio": SOUND, "video": CLIP}


def forms(kind: str, path: str, data: str) -> dict[str, Json]:
    """One medium in all forms, but those that need a network."""
    mime_type, file_url = MIME_TYPES[kind], f"file://{path}"
    url = f"data:{mime_type};base64,{data}"
    return {
        "path": {"type": kind, "path": path},
        "path: file URL": {"type": kind, "path": file_url},
        "path: data URL": {"type": kind, "path": url},
        "path, with its type": {"type": kind, "path": path, "mimeType": mime_type},
        "vLLM": {"type": f"{kind}_url", f"{kind}_url": {"url": url}, "uuid": "1"},
        "vLLM, file URL": {"type": f"{kind}_url", f"{kind}_url": {"url": file_url}},
        "vLLM, text": {"type": f"{kind}_url", f"{kind}_url": path},
        "vLLM, no type": {f"{kind}_url": {"url": url}},
        "MCP": {"type": kind, "data": data, "mimeType": mime_type, "annotations": {}, "_meta": {}},
        "MCP, snake case": {"type": kind, "data": data, "mime_type": mime_type},
        "MCP, embedded": {"type": "resource", "resource": {"uri": "a:b", "mimeType": mime_type, "blob": data}},
        "MCP, link": {"type": "resource_link", "uri": file_url, "name": "a", "mimeType": mime_type},
        "Qwen": {"type": kind, kind: path, "fps": 2.0, "nframes": 8, "total_pixels": 10},
        "Qwen, short": {kind: path},
        "Qwen, data": {"type": kind, kind: url},
        "Anthropic": {"type": kind, "source": {"type": "base64", "media_type": mime_type, "data": data}},
        "Gemini": {"inlineData": {"mimeType": mime_type, "data": data}},
        "Gemini, snake case": {"inline_data": {"mime_type": mime_type, "data": data}},
        "Gemini, file": {"fileData": {"mimeType": mime_type, "fileUri": file_url}},
        "Hugging Face": {"type": kind, "url": path},
        "LangChain": {"type": kind, "source_type": "base64", "data": data, "mime_type": mime_type},
        "LangChain, media": {"type": "media", "mime_type": mime_type, "data": data},
        "Vercel AI SDK": {"type": "file", "data": data, "mediaType": mime_type},
    }


OPENAI: dict[str, Any] = {
    "format": lambda data: {"data": data, "format": "wav"},
    "data URL": lambda data: {"data": f"data:;base64,{data}", "format": "mp3"},
    "text": lambda data: data,
}


def part_of(client: Client, written: Json) -> Media:
    """The medium that the engine was given for a part."""
    client.result("chat_completion", {"messages": [user([{"type": "text", "text": "What?"}, written])]})
    (part,) = client.engine.conversations[-1].messages[0].media
    return part


@pytest.mark.parametrize("kind", ["audio", "video"])
@pytest.mark.parametrize("form", list(forms("audio", "", "")))
def test_medium_is_taken_in_every_form(client: Client, tmp_path: Path, kind: str, form: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(FILES[kind])
    part = part_of(client, forms(kind, str(path), base64.b64encode(FILES[kind]).decode())[form])
    assert part.kind == kind
    if isinstance(part, VideoPart):
        assert (len(part.frames), part.duration_s, part.fps) == (16, 5.0, 8.0)


@pytest.mark.parametrize("form", OPENAI)
def test_audio_is_taken_in_the_forms_of_openai(client: Client, form: str) -> None:
    data = base64.b64encode(SOUND).decode()
    assert part_of(client, {"type": "input_audio", "input_audio": OPENAI[form](data)}).kind == "audio"


def test_audio_by_url_in_openais_form_is_a_reference() -> None:
    part = canonical_part({"type": "input_audio", "input_audio": {"data": "https://a.example/b.mp3", "format": "mp3"}})
    assert part == {"type": "audio", "data": None, "path": "https://a.example/b.mp3"}


def test_samples_are_those_of_the_file_at_16_khz(client: Client) -> None:
    data = base64.b64encode(tone_file(rate=44_100, layout="stereo")).decode()
    part = part_of(client, {"type": "audio", "data": data})
    assert isinstance(part, AudioPart)
    assert part.duration_s == pytest.approx(1, abs=0.01)
    samples = np.frombuffer(part.samples, "<f4")
    assert np.abs(samples[: len(samples) // 2] - tone(16_000, 1)[: len(samples) // 2]).max() < 0.02


def test_frames_are_spread_evenly_and_have_their_times(make_client: Any) -> None:
    client = make_client(VLLM_VIDEO_FRAMES="4")
    part = part_of(client, {"type": "video", "data": base64.b64encode(CLIP).decode()})
    assert isinstance(part, VideoPart)
    assert [number_in(frame) for frame in part.frames] == [round(time_s * 8) for time_s in part.times_s]
    assert part.times_s == pytest.approx((0.625, 1.875, 3.125, 4.375), abs=0.13)


def test_large_frames_are_reduced(client: Client) -> None:
    large = numbered_video(4, 8, size=(1_536, 64))
    reader = client.services.videos
    found = reader.frames(f"data:video/mp4;base64,{base64.b64encode(large).decode()}", 4)
    assert video_part(found, 4).frames[0].size == (MAX_FRAME_SIDE, 32)


def test_same_file_has_another_digest_as_audio_than_as_a_video(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(numbered_video(9, 8))
    one, same = (part_of(client, {"type": "video", "path": str(path)}) for _ in range(2))
    assert one.digest == same.digest
    assert one.digest.startswith("video-")
    assert part_of(client, {"type": "audio", "data": base64.b64encode(SOUND).decode()}).digest.startswith("audio-")


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"type": "audio"}, "an audio part needs exactly one of path and data"),
        ({"type": "video", "path": "/a", "data": "AAAA"}, "a video part needs exactly one of path and data"),
        ({"type": "audio", "path": "/nowhere.wav"}, 'There is no file "/nowhere.wav"'),
        ({"type": "video", "path": "/nowhere.mp4"}, 'There is no file "/nowhere.mp4"'),
        ({"type": "audio", "path": "/a", "mimeType": "image/png"}, '"image/png" is not an audio type'),
        ({"type": "video", "data": "AAAA", "mimeType": "image/png"}, '"image/png" is not a video type'),
        ({"type": "video", "data": "AAAA", "mimeType": "audio/wav"}, '"audio/wav" is not a video type'),
        ({"type": "audio", "data": "?"}, "not base64"),
        ({"type": "video", "data": ""}, "empty"),
        ({"type": "audio", "data": "AAAA"}, "audio"),
        ({"type": "video", "data": "AAAA"}, "video"),
        ({"type": "audio_url", "audio_url": {"url": "ftp://a.example/b"}}, "only http, https, data and file URLs are"),
        ({"type": "video_url", "video_url": {"url": "http://10.0.0.1/a"}}, "10.0.0.1"),
    ],
)
def test_medium_that_cannot_be_read_is_named_by_its_place(client: Client, part: Json, words: str) -> None:
    error = client.error("chat_completion", {"messages": [user("a"), user([{"type": "text", "text": "b"}, part])]})
    assert error.startswith("arguments.messages[1].content[1]: ")
    assert words in error
    assert not client.engine.batches


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"type": "audio", "path": 5}, "arguments.messages[0].content[0].path: expected str"),
        ({"type": "video", "video": ["a", "b"]}, "arguments.messages[0].content[0].path: expected str"),
        ({"type": "audio_url", "audio_url": {"url": "a", "extra": 1}}, "arguments.messages[0].content[0]"),
        ({"type": "input_audio"}, "arguments.messages[0].content[0].type: invalid"),
        ({"type": "input_audio", "input_audio": {"data": 5}}, "arguments.messages[0].content[0].data: expected str"),
        ({"inlineData": {"data": "AAAA"}}, "arguments.messages[0].content[0]"),
    ],
)
def test_unknown_forms_are_named(client: Client, part: Json, words: str) -> None:
    assert words in client.error("chat_completion", {"messages": [user([part])]})


ODD: tuple[Any, ...] = (None, 5, "", "\ud83d", [], [5], {}, {"url": 5}, {"data": None}, {"mimeType": []}, True)


@pytest.mark.parametrize("kind", ["image", "audio", "video"])
def test_odd_values_in_every_form_are_arguments_of_a_wrong_type_at_most(kind: str) -> None:
    known = forms("audio" if kind == "image" else kind, "/a", "AAAA").values()
    written = [json.loads(json.dumps(part).replace("audio", kind)) for part in known]
    written.append({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}})
    for part in written:
        for name, odd in itertools.product(part, ODD):
            for changed in ({**part, name: odd}, _changed_within(part, name, odd)):
                with contextlib.suppress(ArgumentError):
                    validated({"messages": [user([changed])]}, ChatArguments)


def _changed_within(part: Json, name: str, odd: Any) -> Json:
    """The part with one member of an inner object changed."""
    inner = part[name]
    return {**part, name: {**inner, next(iter(inner), "x"): odd}} if isinstance(inner, dict) else {**part, "extra": odd}


def test_short_sound_is_refused_before_the_model_gets_it(client: Client) -> None:
    data = base64.b64encode(tone_file(seconds=0.006)).decode()
    error = client.error("chat_completion", {"messages": [user([{"type": "audio", "data": data}])]})
    assert "too short: it lasts 0.006 s; the minimum is 0.1 s" in error


def test_folders_of_the_settings_hold_for_audio_and_videos(make_client: Any, tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "a").write_bytes(SOUND)
    client = make_client(VLLM_ALLOWED_MEDIA_DIRS=str(inside))
    assert part_of(client, {"type": "audio", "path": str(inside / "a")}).kind == "audio"
    for kind in ("audio", "video"):
        error = client.error("chat_completion", {"messages": [user([{"type": kind, "path": str(outside / "a")}])]})
        assert "VLLM_ALLOWED_MEDIA_DIRS" in error


def test_too_many_are_refused_before_any_is_read(make_client: Any) -> None:
    client = make_client(VLLM_MAX_IMAGES_PER_PROMPT="2")
    parts = [{"type": "audio", "path": "/nowhere"}] * 3
    assert "3 audio parts; one prompt holds at most 2" in client.error("chat_completion", {"messages": [user(parts)]})


# Models


def test_model_known_not_to_take_a_kind_is_refused_before_the_file_is_read(client: Client) -> None:
    client.engine.hears = client.engine.watches = False
    client.chat()
    assert "does not accept audio" in client.error(
        "chat_completion", {"messages": [user([{"type": "audio", "path": "/nowhere"}])]}
    )
    assert "analyze_video" in client.error(
        "chat_completion", {"messages": [user([{"type": "video", "path": "/nowhere"}])]}
    )
    (item,) = client.result(
        "chat_completion_batch", {"conversations": [[user([{"type": "audio", "path": "/nowhere"}])]]}
    ).results
    assert "does not accept audio" in item.error


def test_model_found_not_to_take_a_kind_is_refused_once_it_is_loaded(client: Client) -> None:
    client.engine.hears = False
    part = {"type": "audio", "data": base64.b64encode(SOUND).decode()}
    error = client.error("chat_completion", {"messages": [user([part])], "session_id": "s"})
    assert "fake-model does not accept audio" in error
    assert client.engine.n_loads == 1
    assert not client.engine.batches
    assert len(client.services.sessions) == 0


def test_models_that_take_it_are_named(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    statuses = {
        "eyes": EngineStatus(EngineState.READY, "eyes", supports_images=True, supports_audio=False),
        "ears": EngineStatus(EngineState.OFFLOADED, "ears", supports_audio=True),
        "unknown": EngineStatus(EngineState.UNLOADED, "unknown"),
        "whisper": EngineStatus(EngineState.READY, "whisper", supports_audio=True, transcribes=True),
    }
    monkeypatch.setattr(client.services.models, "statuses", lambda: statuses)
    monkeypatch.setattr(client.services.models, "name_of", lambda name: name or "eyes")
    assert refusal(["audio"], client.services) == (
        "The model eyes does not accept audio. Send the words as text, or choose a model that takes audio. Here, ears "
        "can be named as model."
    )
    assert refusal(["audio"], client.services, "ears") is None
    assert refusal(["audio", "video"], client.services, "unknown") is None
    assert refusal([], client.services) is None


def test_model_that_transcribes_is_no_answer_but_its_tool_is_named(make_client: Any) -> None:
    client = make_client(VLLM_ASR_MODEL="openai/whisper-base")
    client.engine.hears = False
    client.chat()
    error = client.error("chat_completion", {"messages": [user([{"type": "audio", "path": "/nowhere"}])]})
    assert error.endswith("or choose a model that takes audio. transcribe_audio writes down what is said.")


# The budget, and sessions


def test_media_count_in_the_budget_until_the_call_ends(client: Client) -> None:
    call = client.make_call("chat_completion", {})
    reader = call_media(call, client.services)
    data = base64.b64encode(SOUND).decode()
    before = client.services.budget.held_bytes
    source = {"kind": "audio", "data": data}
    one = reader.part(MediaSource(**source))  # type: ignore[arg-type]
    same = reader.part(MediaSource(**source, mime_type="audio/wav"))  # type: ignore[arg-type]
    assert isinstance(one, AudioPart)
    assert one is same
    assert client.services.budget.held_bytes - before == COPIES * one.n_bytes
    call.release()
    assert client.services.budget.held_bytes == before


def test_media_beyond_the_budget_are_refused(client: Client) -> None:
    client.services.budget = ByteBudget(10_000)
    data = base64.b64encode(SOUND).decode()
    error = client.error("chat_completion", {"messages": [user([{"type": "audio", "data": data}])]})
    assert error.startswith("arguments.messages[0].content[0]: ")


def test_session_shows_how_many_there_are(client: Client) -> None:
    parts = [{"type": kind, "data": base64.b64encode(FILES[kind]).decode()} for kind in ("audio", "video", "audio")]
    client.result("chat_completion", {"messages": [user(parts)], "session_id": "s"})
    client.result("chat_completion", {"messages": [user("again")], "session_id": "s"})
    first, *rest = client.result("get_session", {"session_id": "s"}).messages
    assert (first.images, first.audio, first.videos) == (0, 2, 1)
    assert {(each.images, each.audio, each.videos) for each in rest} == {(0, 0, 0)}
    again = client.engine.conversations[-1].messages[0].media
    assert [part.kind for part in again] == ["audio", "video", "audio"]
