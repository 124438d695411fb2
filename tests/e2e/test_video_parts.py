"""Videos in messages, seen by a tiny random Qwen2-VL: the same clip gives the same tokens, another clip others."""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e import environments, torchvision_wheel
from tests.e2e.images import asked, drawn, image_part
from tests.e2e.media_answers import error
from tests.e2e.server_process import Json, ServerProcess
from tests.unit.media.hostile_files import swollen_mp4s
from tests.unit.media.numbered_video import encoded
from tests.unit.media.sample_media import audio_file

pytestmark = pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed here")

RAW_TIMEOUT_S = 280
GREEDY: Json = {"temperature": 0, "max_tokens": 12, "ignore_eos": True}


def clip(*colours: str, frames_each: int = 4) -> bytes:
    """A video of 8 frames a second whose background changes."""
    pictures = [np.asarray(drawn(colour, "circle", "white").resize((112, 112))) for colour in colours]
    frames = [picture for picture in pictures for _ in range(frames_each)]
    return encoded({125 * number: pixels for number, pixels in enumerate(frames)}, 8)


def video_data(data: bytes) -> Json:
    """A content part in the form of vLLM's API."""
    url = f"data:video/mp4;base64,{base64.b64encode(data).decode()}"
    return {"type": "video_url", "video_url": {"url": url}}


def settings(**more: str) -> dict[str, str]:
    return {
        "VLLM_MODEL_NAME": torchvision_wheel.folder_of("qwen2-vl"),
        "VLLM_CPU_KVCACHE_SPACE": "0.125",
        "VLLM_VIDEO_FRAMES": "8",
        **torchvision_wheel.environment(),
        **more,
    }


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sessions") / "sessions.db"


@pytest.fixture(scope="module")
def server(stored: Path) -> Iterator[ServerProcess]:
    with ServerProcess(settings(VLLM_SESSION_DB=str(stored))) as process:
        process.initialize()
        yield process


def answer(server: ServerProcess, messages: list[Json], **more: Any) -> Json:
    return server.result("chat_completion", {"messages": messages, **GREEDY, **more})


def error_of(server: ServerProcess, messages: list[Json]) -> str:
    return error(server, "chat_completion", {"messages": messages, **GREEDY})


def test_same_clip_gives_the_same_tokens_as_raw_vllm_and_another_clip_others(tmp_path: Path) -> None:
    clips = [clip("red", "blue"), clip("blue", "red"), clip("green"), clip("green", frames_each=16)]
    paths = [tmp_path / f"{number}.mp4" for number in range(len(clips))]
    for path, data in zip(paths, clips, strict=True):
        path.write_bytes(data)
    run = subprocess.run(
        [sys.executable, "-m", "tests.e2e.raw_video", torchvision_wheel.folder_of("qwen2-vl"), *map(str, paths)],
        cwd=environments.ROOT,
        env={**os.environ, **torchvision_wheel.environment()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RAW_TIMEOUT_S,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    told = json.loads(run.stdout.splitlines()[-1])
    assert told["supports"] == [False, True]
    for by_part, by_array, n_tokens, n_raw_tokens in told["answers"]:
        assert (by_part, n_tokens) == (by_array, n_raw_tokens)
    assert len({by_part for by_part, *_ in told["answers"]}) == len(clips)


def test_every_form_of_a_video_is_the_same_clip(server: ServerProcess, tmp_path: Path) -> None:
    data = clip("red", "blue")
    text = base64.b64encode(data).decode()
    path = tmp_path / "clip.mp4"
    path.write_bytes(data)
    forms: list[Json] = [
        video_data(data),
        {"type": "video", "path": str(path)},
        {"type": "video", "data": text, "mimeType": "video/mp4"},
        {"type": "resource_link", "uri": path.as_uri(), "name": "clip", "mimeType": "video/mp4"},
        {"type": "resource", "resource": {"uri": "a:b", "blob": text, "mimeType": "video/mp4"}},
        {"type": "video", "video": path.as_uri(), "fps": 2.0, "max_pixels": 10},
        {"inline_data": {"mime_type": "video/mp4", "data": text}},
    ]
    answers = [answer(server, asked("Say", form)) for form in forms]
    assert len({each["text"] for each in answers}) == 1
    assert answers[0]["usage"]["prompt_tokens"] > answer(server, asked("Say"))["usage"]["prompt_tokens"]
    assert answers[0]["usage"]["video_tokens"] > 0
    assert answers[0]["usage"]["image_tokens"] == answers[0]["usage"]["audio_tokens"] == 0
    assert answer(server, asked("Say", video_data(clip("blue", "red"))))["text"] != answers[0]["text"]
    together = asked("Say", video_data(data), image_part(drawn("green")), video_data(clip("yellow")))
    assert answer(server, together)["text"] != answers[0]["text"]


def test_session_keeps_a_clip_over_turns_and_a_restart(server: ServerProcess, stored: Path) -> None:
    question = asked("Say", video_data(clip("yellow", "green")))
    first = answer(server, question, session_id="s")
    second = answer(server, asked("Again"), session_id="s")
    said = [*question, {"role": "assistant", "content": first["text"]}, *asked("Again")]
    assert second["text"] == answer(server, said)["text"]
    shown = server.result("get_session", {"session_id": "s"})["messages"]
    assert [each["videos"] for each in shown] == [1, 0, 0, 0]
    third = answer(server, asked("Once more"), session_id="s", fork_session=True, fork_session_id="before")
    with ServerProcess(settings(VLLM_SESSION_DB=str(stored))) as later:
        later.initialize()
        again = answer(later, asked("Once more"), session_id="s", fork_session=True)
        assert again["text"] == third["text"]
        assert again["usage"]["prompt_tokens"] == third["usage"]["prompt_tokens"]


def test_bad_videos_cost_their_own_call_alone(server: ServerProcess, tmp_path: Path) -> None:
    good = asked("Say", video_data(clip("red", "blue")))
    before = answer(server, good)["text"]
    cases: list[tuple[Json, str]] = [
        ({"type": "video", "data": "????"}, "not base64"),
        (video_data(b"\x00" * 5_000), "video"),
        (video_data(clip("red")[:300]), "video"),
        (video_data(swollen_mp4s()["stsz of several tracks"]), "video"),
        ({"type": "video", "data": base64.b64encode(audio_file()).decode()}, "no video"),
        ({"type": "video", "path": str(tmp_path / "none.mp4")}, "none.mp4"),
        ({"type": "video_url", "video_url": {"url": "http://127.0.0.1:9/a.mp4"}}, "127.0.0.1"),
        ({"type": "video_url", "video_url": {"url": "data:audio/wav;base64,AAAA"}}, '"audio/wav" is not a video type'),
        ({"type": "video", "data": "AAAA", "mimeType": "image/png"}, '"image/png" is not a video type'),
        ({"type": "video"}, "a video part needs exactly one of path and data"),
        ({"type": "audio", "data": base64.b64encode(audio_file()).decode()}, "does not accept audio"),
    ]
    for part, words in cases:
        assert words in error_of(server, asked("Say", part)), part
    assert answer(server, good)["text"] == before
    five = asked("Say", *(video_data(clip(colour)) for colour in ("red", "green", "blue", "yellow", "white")))
    assert "5 videos; one prompt holds at most 4" in error_of(server, five)


def test_batch_with_clips_is_the_same_as_one_by_one(server: ServerProcess) -> None:
    conversations = [asked("Say", video_data(clip(colour))) for colour in ("red", "green")]
    wrong = asked("Say", {"type": "video", "data": "????"})
    arguments = {"conversations": [*conversations, wrong], **GREEDY}
    *texts, refused = server.result("chat_completion_batch", arguments)["results"]
    assert [item["text"] for item in texts] == [answer(server, each)["text"] for each in conversations]
    assert "not base64" in refused["error"]
