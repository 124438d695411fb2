"""What is seen and what is said in one video, with the bundled model and Whisper behind one server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from media.decoding.muxing import add_audio
from tests.e2e import real_models
from tests.e2e.clips import CHANGE_S, END_S, clip
from tests.e2e.server_process import ServerProcess
from tests.speech import speech, word_error_rate

SPOKEN = "Where is the harbour? The ship will leave tomorrow morning."
MAX_WORD_ERROR_RATE = 0.3
"""Of three words, the model may mishear one of the robot's."""


@pytest.fixture(scope="module")
def server(model: dict[str, str]) -> Iterator[ServerProcess]:
    with ServerProcess({**model, "VLLM_ASR_MODEL": real_models.folder("whisper-base")}) as process:
        process.initialize()
        yield process


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The clip with a voice; its sound ends before the images."""
    path = tmp_path_factory.mktemp("clips") / "spoken.mp4"
    path.write_bytes(add_audio(clip(), speech(SPOKEN, pauses_s=(0.5, 0.5))))
    return str(path)


def test_a_video_is_seen_and_heard(server: ServerProcess, path: str) -> None:
    arguments = {"video_path": path, "query": "red circle", "max_frames": 4, "include_speech": True}
    result = server.result("analyze_video", arguments)
    speech_found = result["speech"]
    assert speech_found["error"] is None
    assert word_error_rate(SPOKEN, speech_found["text"]) <= MAX_WORD_ERROR_RATE
    assert speech_found["language"] == "en"
    assert "whisper" in speech_found["model"]
    times_s = [(segment["start_s"], segment["end_s"]) for segment in speech_found["segments"]]
    assert all(0 <= start_s < end_s <= END_S + 1 for start_s, end_s in times_s)
    assert times_s == sorted(times_s)
    assert result["found"][0]["end_s"] == pytest.approx(CHANGE_S, abs=result["sampling_step_s"] / 2 + 0.002)
    silent = server.result("analyze_video", {**arguments, "include_speech": False})
    assert silent["speech"] is None
    assert silent["usage"]["prompt_tokens"] < result["usage"]["prompt_tokens"]


def test_a_video_without_sound_is_seen(server: ServerProcess, tmp_path: Path) -> None:
    (tmp_path / "silent.mp4").write_bytes(clip())
    arguments = {"video_path": str(tmp_path / "silent.mp4"), "query": "red circle", "include_speech": True}
    result = server.result("analyze_video", arguments)
    assert result["speech"]["error"] == "The video has no audio track."
    assert result["found"]


def test_the_chat_model_does_not_transcribe(model: dict[str, str], path: str) -> None:
    with ServerProcess({**model, "VLLM_ASR_MODEL": model["VLLM_MODEL_NAME"]}) as server:
        server.initialize()
        result = server.result(
            "analyze_video", {"video_path": path, "query": "red circle", "max_frames": 2, "include_speech": True}
        )
        assert result["speech"]["text"] == ""
        assert result["speech"]["error"]
        assert result["found"]
