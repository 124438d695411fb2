"""transcribe_audio: the arguments, the forms of the result, jobs, and what happens without a model or in no time."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from engine.errors import EngineDied
from engine.interface import Control, FinishReason
from handlers.audio.transcription import read_speech, speech_model, transcribe
from tests.unit.fake_engine import FakeEngine
from tests.unit.handlers.tool_client import Client
from tests.unit.handlers.vision_calls import OUTPUT_SCHEMAS, structured
from tests.unit.media.sample_media import audio_file, pcm, raw_wav, video_file

MakeClient = Callable[..., Client]
SPOKEN = "<|0.00|> Good & bad.<|1.00|><|1.00|> Morning.<|2.00|>"
TIMEOUT_S = 30.0


@pytest.fixture
def client(make_client: MakeClient) -> Client:
    return make_client(VLLM_ASR_MODEL="openai/whisper-base")


@pytest.fixture
def ears(client: Client) -> FakeEngine:
    """The speech model's engine."""
    engine = client.services.models.engine("whisper-base")
    assert isinstance(engine, FakeEngine)
    return engine


@pytest.fixture
def recording(tmp_path: Path) -> str:
    """Two seconds of a tone."""
    path = tmp_path / "talk.mp3"
    path.write_bytes(audio_file("mp3", "libmp3lame", 44_100, "stereo", seconds=2))
    return str(path)


def heard(ears: FakeEngine, code: str = "de", text: str = SPOKEN, **options: Any) -> None:
    """Queues a language and a text."""
    ears.enqueue(tokens=(), language_probabilities={code: 0.96875, "xx": 0.03125}, no_speech_prob=0.01)
    ears.enqueue(tokens=(text,), no_speech_prob=0.01, **options)


def run(client: Client, recording: str, **arguments: Any) -> Any:
    """The content and the result of a call that succeeds, checked against its schema."""
    result = client.run("transcribe_audio", {"audio_path": recording, **arguments})
    assert not result["isError"], result
    found = structured(result)
    jsonschema.Draft202012Validator(OUTPUT_SCHEMAS["transcribe_audio"]).validate(found)
    return result["content"][0]["text"], found


def error(client: Client, recording: str, **arguments: Any) -> str:
    """The text of a call that fails."""
    result = client.run("transcribe_audio", {"audio_path": recording, **arguments})
    assert result["isError"], result
    text: str = result["content"][0]["text"]
    return text


def test_a_recording_becomes_a_text_with_segments(client: Client, ears: FakeEngine, recording: str) -> None:
    heard(ears)
    text, found = run(client, recording)
    assert text == found["text"] == "Good & bad. Morning."
    assert found["segments"][1] == {
        "start_s": 1.0,
        "end_s": 2.0,
        "text": "Morning.",
        "avg_logprob": 0.0,
        "no_speech_prob": 0.01,
    }
    assert (found["language"], found["language_probability"]) == ("de", 0.96875)
    assert found["duration_s"] == found["transcribed_s"] == pytest.approx(2, abs=0.1)
    assert (found["status"], found["finish_reason"], found["model"]) == ("done", "stop", "whisper-base")
    assert found["subtitles"] is None
    assert found["timings"]["total_ms"] > 0


@pytest.mark.parametrize(
    ("format", "begin"),
    [
        ("srt", "1\n00:00:00,000 --> 00:00:01,000\nGood & bad.\n\n2\n"),
        ("vtt", "WEBVTT\n\n00:00:00.000 --> 00:00:01.000\nGood &amp; bad.\n\n00:00:01.000 -->"),
    ],
)
def test_subtitles_are_the_text_of_the_reply(
    client: Client, ears: FakeEngine, recording: str, format: str, begin: str
) -> None:
    heard(ears)
    text, found = run(client, recording, format=format, timestamps="none")
    assert text == found["subtitles"]
    assert text.startswith(begin)
    assert found["text"] == "Good & bad. Morning."


def test_json_is_the_whole_result(client: Client, ears: FakeEngine, recording: str) -> None:
    heard(ears)
    text, found = run(client, recording, format="json")
    assert json.loads(text) == found


def test_without_timestamps_there_are_no_segments(client: Client, ears: FakeEngine, recording: str) -> None:
    heard(ears, text=" Good morning.")
    _, found = run(client, recording, timestamps="none")
    assert (found["text"], found["segments"]) == ("Good morning.", [])
    assert not ears.windows[1][0].timestamps


def test_arguments_reach_the_model(client: Client, ears: FakeEngine, recording: str) -> None:
    ears.enqueue(tokens=(SPOKEN,))
    _, found = run(client, recording, language="Portuguese", task="translate", prompt="Öztürk")
    ((window,),) = ears.windows
    assert (window.language, window.translates, window.prompt) == ("pt", True, "Öztürk")
    assert (found["language"], found["language_probability"]) == ("pt", None)


def test_the_track_of_a_video_and_data_are_heard(client: Client, ears: FakeEngine, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(video_file(audio="aac"))
    heard(ears)
    assert run(client, str(tmp_path / "clip.mp4"))[1]["duration_s"] == pytest.approx(1, abs=0.1)
    heard(ears)
    data = base64.b64encode(audio_file()).decode()
    assert run(client, f"data:audio/wav;base64,{data}")[1]["duration_s"] == 1.0
    assert [job.items[0].label for job in client.services.jobs.list()] == [
        "data:audio/wav;base64,…",
        str(tmp_path / "clip.mp4"),
    ]


def test_silence_is_an_empty_text(client: Client, ears: FakeEngine, tmp_path: Path) -> None:
    (tmp_path / "silence.wav").write_bytes(raw_wav(bytes(64_000)))
    text, found = run(client, str(tmp_path / "silence.wav"))
    assert (text, found["language"], found["segments"], found["finish_reason"]) == ("", None, [], "stop")
    assert ears.windows == []


# Errors


def test_without_a_speech_model_the_error_says_how_to_name_one(make_client: MakeClient, recording: str) -> None:
    text = error(make_client(), recording)
    assert "VLLM_ASR_MODEL" in text
    assert "openai/whisper-base" in text


def test_an_unknown_model_lists_those_there_are(client: Client, recording: str) -> None:
    assert "The models of this server: demo-vlm, whisper-base" in error(client, recording, model="whisper-huge")


def test_a_chat_model_is_refused_before_anything_is_read(client: Client, tmp_path: Path) -> None:
    text = error(client, str(tmp_path / "missing.wav"), model="demo-vlm")
    assert text.startswith("The model demo-vlm does not transcribe")


def test_a_remote_server_does_not_transcribe(make_client: MakeClient, tmp_path: Path) -> None:
    client = make_client(VLLM_ASR_MODEL="openai/whisper-base", VLLM_BASE_URL="http://127.0.0.1:1/v1")
    text = error(client, str(tmp_path / "missing.wav"))
    assert text.startswith("Speech is transcribed in this process only, and VLLM_BASE_URL names a server.")


def test_an_unknown_language_lists_those_there_are(client: Client, recording: str) -> None:
    text = error(client, recording, language="klingon")
    assert text.startswith("arguments.language: There is no language 'klingon' for speech models. Known: en (English)")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (None, "arguments.audio_path: There is no file"),
        (b"hello, this is text", "not audio in a supported format"),
        (audio_file(seconds=3)[:40_000], "cut off"),
        (raw_wav(pcm(np.full(100, 0.5))), "too short: it lasts 0.01 s; the minimum is 0.1 s"),
    ],
)
def test_bad_recordings_are_refused(client: Client, tmp_path: Path, data: bytes | None, text: str) -> None:
    path = tmp_path / "a.wav"
    if data is not None:
        path.write_bytes(data)
    assert text in error(client, str(path))
    assert client.services.jobs.list() == []


def test_samples_count_in_the_budget_until_the_job_ends(make_client: MakeClient, tmp_path: Path) -> None:
    client = make_client(VLLM_ASR_MODEL="openai/whisper-base", VLLM_MAX_HELD_BYTES=str(64 << 20))
    (tmp_path / "long.flac").write_bytes(audio_file("flac", "flac", 16_000, samples=np.full(16_000 * 1_200, 0.25)))
    assert "VLLM_MAX_HELD_BYTES" in error(client, str(tmp_path / "long.flac"))
    (tmp_path / "short.wav").write_bytes(raw_wav(bytes(64_000)))
    run(client, str(tmp_path / "short.wav"))
    assert client.services.budget.held_bytes == 0


def test_what_the_engine_says_is_the_error(client: Client, ears: FakeEngine, recording: str) -> None:
    heard(ears, raises=EngineDied("The engine stopped working."))
    assert error(client, recording) == "The engine stopped working."
    (job,) = client.services.jobs.list()
    assert job.state == "failed"
    assert client.services.budget.held_bytes == 0


# Jobs, deadlines and cancelling


def test_a_job_goes_on_and_job_status_has_its_result(client: Client, ears: FakeEngine, recording: str) -> None:
    hold = threading.Event()
    heard(ears, hold=hold)
    text, found = run(client, recording, wait_s=0)
    assert (found["status"], found["finish_reason"], found["text"]) == ("running", None, "")
    assert text.startswith("Still running: 0 of 2 s are transcribed. Call job_status with job_id transcription_")
    running = json.loads(client.run("job_status", {"job_id": found["job_id"]})["content"][0]["text"])
    assert running["status"] == "running"
    hold.set()
    done = client.run("job_status", {"job_id": found["job_id"], "wait_s": TIMEOUT_S})
    answer = json.loads(done["content"][0]["text"])
    assert (answer["status"], answer["text"], answer["language"]) == ("done", "Good & bad. Morning.", "de")
    (entry,) = structured(client.run("list_jobs"))["jobs"]
    assert (entry["kind"], entry["status"], entry["about"]) == ("transcription", "succeeded", recording)
    assert client.services.budget.held_bytes == 0


def test_a_job_can_be_cancelled(client: Client, ears: FakeEngine, recording: str) -> None:
    heard(ears, hold=threading.Event())
    _, found = run(client, recording, wait_s=0)
    assert ears.generating.wait(TIMEOUT_S)
    answer = structured(client.run("cancel_batch", {"batch_id": found["job_id"]}))
    assert (answer["status"], answer["files_saved"]) == ("cancelled", [])
    status = json.loads(client.run("job_status", {"job_id": found["job_id"]})["content"][0]["text"])
    assert (status["status"], status["text"]) == ("cancelled", "")
    assert client.services.budget.held_bytes == 0


def test_cancelling_the_call_cancels_its_job(client: Client, ears: FakeEngine, recording: str) -> None:
    heard(ears, hold=threading.Event())
    call = client.make_call("transcribe_audio", {"audio_path": recording})
    thread = threading.Thread(target=lambda: client.toolbox.run(call))
    thread.start()
    assert ears.generating.wait(TIMEOUT_S)
    call.cancellation.set()
    thread.join(TIMEOUT_S)
    (job,) = client.services.jobs.list()
    assert job.wait(TIMEOUT_S)
    assert job.state == "cancelled"


def test_the_callers_deadline_leaves_the_text_so_far(client: Client, ears: FakeEngine, recording: str) -> None:
    cut = "<|0.00|> Good & bad.<|1.00|><|1.00|> Mor"
    heard(ears, text=cut, finish_reason=FinishReason.TIMEOUT)
    text, found = run(client, recording, timeout_s=20)
    assert (text, found["finish_reason"], found["transcribed_s"]) == ("Good & bad.", "timeout", 1.0)


def test_the_servers_deadline_leaves_a_job(client: Client, ears: FakeEngine, recording: str) -> None:
    hold = threading.Event()
    heard(ears, hold=hold)
    call = client.make_call("transcribe_audio", {"audio_path": recording}, timeout_s=3.0)
    found = structured(client.toolbox.run(call))
    assert found["status"] == "running"
    hold.set()
    job = client.services.jobs.find(found["job_id"])
    assert job.wait(TIMEOUT_S)
    assert job.state == "succeeded"


def test_progress_is_the_seconds_of_the_recording(client: Client, ears: FakeEngine, recording: str) -> None:
    hold = threading.Event()
    heard(ears, hold=hold)
    threading.Timer(0.3, hold.set).start()
    client.run("transcribe_audio", {"audio_path": recording}, progress_token="t")
    told = [message["params"] for message in client.sent if message["method"] == "notifications/progress"]
    values = [params["progress"] for params in told]
    assert values == sorted(set(values))
    assert values[-1] == pytest.approx(2, abs=0.1)
    assert {round(params["total"]) for params in told} == {2}
    assert any("transcribing" in params["message"] for params in told)


# For other tools


def test_other_tools_get_the_transcript_itself(client: Client, ears: FakeEngine, recording: str) -> None:
    heard(ears)
    audio = read_speech(recording, client.make_call("analyze_video", {}), client.services)
    found = transcribe(audio, speech_model(None, client.services), Control(), client.services)
    assert (found.text, found.language, found.model) == ("Good & bad. Morning.", "de", "whisper-base")
    assert [one.end_s for one in found.segments] == [1.0, 2.0]
    assert found.finish_reason is FinishReason.STOP
