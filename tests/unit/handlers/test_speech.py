"""`generate_speech` over a scripted vLLM-Omni server, and talking videos from words."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import pytest
from PIL import Image

from handlers.media_generation import speech as speech_module
from omni import client as client_module
from omni.video import server_jobs
from tests.scripted_omni import MODEL as IMAGE_MODEL
from tests.scripted_omni import ScriptedOmni, answers, hangs_up, never_ends, refuses
from tests.scripted_speech import FAILURES, PATH, ScriptedSpeechServer
from tests.scripted_video import ScriptedVideoServer, failed
from tests.unit.handlers.media_answers import blocks, facts
from tests.unit.handlers.tool_client import Client
from tests.unit.media.sample_media import audio_file, raw_wav, video_file

pytestmark = pytest.mark.slow

Json = dict[str, Any]
WAIT_S = 15.0
TOOL, TALK = "generate_speech", "process_image_to_video"
TEXT = "The quick brown fox jumps over the lazy dog, and then it sleeps."
SMALL = {"width": 64, "height": 48, "num_inference_steps": 2}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits long before it asks again."""
    monkeypatch.setattr(client_module, "PAUSES_S", (0.01, 0.01))
    monkeypatch.setattr(server_jobs, "POLL_S", 0.01)
    monkeypatch.setattr(server_jobs, "MAX_POLL_S", 0.05)


@pytest.fixture
def server() -> Iterator[ScriptedSpeechServer]:
    with ScriptedSpeechServer() as made:
        yield made


@pytest.fixture
def video() -> Iterator[ScriptedVideoServer]:
    with ScriptedVideoServer() as made:
        yield made


@pytest.fixture
def speaker(
    make_client: Callable[..., Client], server: ScriptedSpeechServer, video: ScriptedVideoServer, tmp_path: Path
) -> Client:
    """A client whose speech and videos come from the scripted servers and go into `out`."""
    return make_client(
        OMNI_SPEECH_URL=server.url,
        OMNI_VIDEO_URL=video.url,
        OMNI_URL="http://127.0.0.1:9",
        OMNI_OUTPUT_DIR=str(tmp_path / "out"),
    )


@pytest.fixture
def face(tmp_path: Path) -> str:
    path = str(tmp_path / "face.png")
    Image.new("RGB", (96, 64), "red").save(path)
    return path


def written(tmp_path: Path) -> list[str]:
    return sorted(os.listdir(tmp_path / "out")) if (tmp_path / "out").exists() else []


def test_speech_comes_as_facts_and_link(speaker: Client, server: ScriptedSpeechServer, tmp_path: Path) -> None:
    text, link = blocks(speaker, TOOL, {"text": TEXT, "seed": 5, "voice": "anna"})
    told = json.loads(text["text"])
    path = told.pop("file_path")
    assert Path(path).parent == tmp_path / "out"
    assert told.pop("generation_time_seconds") > 0
    assert told.pop("job_id").startswith("speech_")
    assert told == {
        "status": "success",
        "duration_seconds": 3.84,
        "sample_rate": 24_000,
        "format": "wav",
        "voice": "anna",
        "seed": 5,
        "parameters_used": {
            "model": "k2-fsa/OmniVoice", "text": TEXT, "format": "wav", "seed": 5, "speed": 1.0, "voice": "anna",
        },
    }  # fmt: skip
    assert (link["type"], link["mimeType"], link["uri"]) == ("resource_link", "audio/wav", f"file://{path}")
    assert link["size"] == os.path.getsize(path)
    (request,) = server.said()
    assert request == {
        "model": "k2-fsa/OmniVoice", "input": TEXT, "response_format": "wav", "speed": 1.0, "seed": 5, "voice": "anna",
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["wav", "mp3", "flac"])
def test_each_format_is_served_again_with_its_parameters(speaker: Client, kind: str, tmp_path: Path) -> None:
    told = facts(speaker, TOOL, {"text": TEXT, "format": kind, "filename": "said"})
    assert told["file_path"] == str(tmp_path / "out" / f"said.{kind}")
    assert told["duration_seconds"] == pytest.approx(3.84, abs=0.1)
    data = Path(told["file_path"]).read_bytes()
    assert json.dumps(TEXT).encode() in data
    with av.open(io.BytesIO(data), "r") as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) / 24_000 == pytest.approx(3.84, abs=0.1)
    part = json.loads(speaker.run("read_media", {"path": told["file_path"]})["content"][0]["text"])
    assert part["total_bytes"] == len(data)
    assert part["mime_type"] == {"wav": "audio/wav", "mp3": "audio/mpeg", "flac": "audio/flac"}[kind]


def test_recording_is_sent_as_sound_of_24_khz(speaker: Client, server: ScriptedSpeechServer, tmp_path: Path) -> None:
    (tmp_path / "voice.mp3").write_bytes(audio_file("mp3", "libmp3lame", 44_100, "stereo", seconds=2))
    reference = {"reference_audio": str(tmp_path / "voice.mp3"), "reference_text": "So I speak."}
    told = facts(speaker, TOOL, {"text": TEXT, **reference})
    assert told["parameters_used"]["reference_audio"] is True
    (request,) = server.said()
    assert request["ref_audio"].startswith("data:audio/wav;base64,UklGR")
    assert request["ref_text"] == "So I speak."
    import base64
    import wave

    with wave.open(io.BytesIO(base64.b64decode(request["ref_audio"].partition(",")[2]))) as sent:
        assert (sent.getframerate(), sent.getnchannels()) == (24_000, 1)
        assert sent.getnframes() / 24_000 == pytest.approx(2, abs=0.1)


def test_seed_is_drawn_and_told(speaker: Client, server: ScriptedSpeechServer) -> None:
    told = facts(speaker, TOOL, {"text": TEXT, "speed": 2, "language": "English", "instructions": "softly"})
    (request,) = server.said()
    assert request["seed"] == told["seed"]
    assert (request["speed"], request["language"], request["instructions"]) == (2, "English", "softly")
    assert told["duration_seconds"] == pytest.approx(1.92, abs=0.1)


@pytest.mark.parametrize("name", FAILURES)
def test_what_is_no_speech_is_an_error_and_nothing_is_saved(
    speaker: Client, server: ScriptedSpeechServer, tmp_path: Path, name: str
) -> None:
    route, text = FAILURES[name]
    server.script(route, path=PATH)
    assert text in speaker.error(TOOL, {"text": TEXT})
    assert written(tmp_path) == []


def test_nothing_is_made_where_nothing_can_be_checked(
    speaker: Client, server: ScriptedSpeechServer, face: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    for tool, arguments in ((TOOL, {"text": TEXT}), (TALK, {"image_path": face, "speech_text": TEXT})):
        assert "needs the extra media: run `scripts/setup`" in speaker.error(tool, arguments)
    assert server.said() == []


def test_unknown_voice_is_an_error_with_the_voices(speaker: Client) -> None:
    assert "Invalid voice 'alloy'. Supported: anna, default" in speaker.error(TOOL, {"text": TEXT, "voice": "alloy"})


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"text": ""}, "arguments.text"),
        ({"text": " \n"}, "nothing to say"),
        ({"text": "a" * (speech_module.MAX_TEXT + 1)}, "arguments.text"),
        ({"voice": ""}, "arguments.voice"),
        ({"voice": "anna", "reference_audio": "{voice}"}, "voice or reference_audio, not both"),
        ({"reference_text": "a"}, "reference_audio, which is missing"),
        ({"reference_audio": "/no/such.wav"}, "arguments.reference_audio: There is no file"),
        ({"reference_audio": "/dev/zero"}, "arguments.reference_audio"),
        ({"reference_audio": "http://127.0.0.1/a.wav"}, "VLLM_ALLOWED_MEDIA_HOSTS"),
        ({"reference_audio": "{silence}"}, "arguments.reference_audio: The audio is silent"),
        ({"reference_audio": "{face}"}, "arguments.reference_audio: This is not audio"),
        ({"speed": 5}, "arguments.speed"),
        ({"format": "opus"}, "arguments.format"),
        ({"seed": -1}, "arguments.seed"),
        ({"filename": "a.mp3"}, "this is a .wav file; leave .mp3 out"),
        ({"filename": "../a"}, "filename"),
        ({"pitch": 3}, "pitch"),
    ],
)
def test_bad_arguments_are_refused_and_nothing_is_made(
    speaker: Client, server: ScriptedSpeechServer, tmp_path: Path, face: str, arguments: Json, text: str
) -> None:
    (tmp_path / "voice.wav").write_bytes(audio_file(seconds=1))
    (tmp_path / "silence.wav").write_bytes(raw_wav(bytes(32_000)))
    places = {"{voice}": str(tmp_path / "voice.wav"), "{silence}": str(tmp_path / "silence.wav"), "{face}": face}
    given = {name: places.get(value, value) if isinstance(value, str) else value for name, value in arguments.items()}
    assert text in speaker.error(TOOL, {"text": TEXT, **given})
    assert (server.said(), written(tmp_path)) == ([], [])


def test_server_of_images_is_refused_without_asking_it_to_speak(
    make_client: Callable[..., Client], tmp_path: Path
) -> None:
    with ScriptedOmni() as images:
        client = make_client(OMNI_URL=images.url, OMNI_OUTPUT_DIR=str(tmp_path / "out"))
        error = client.error(TOOL, {"text": TEXT})
        assert f"serves {IMAGE_MODEL}, which does not speak" in error
        assert "set OMNI_SPEECH_URL" in error
        assert not any(path == PATH for _, path, _ in images.seen)


def test_unknown_model_is_tried_with_a_warning(speaker: Client, server: ScriptedSpeechServer) -> None:
    server.model = "somebody/talker"
    assert "'somebody/talker' is unknown" in facts(speaker, TOOL, {"text": TEXT})["notes"][0]
    server.script(refuses(500, "no speech"), path=PATH)
    error = speaker.error(TOOL, {"text": TEXT})
    assert "no speech" in error
    assert "Models that speak: k2-fsa/OmniVoice" in error


def test_server_that_is_not_there_is_one_clear_error(make_client: Callable[..., Client]) -> None:
    client = make_client(OMNI_SPEECH_URL="http://127.0.0.1:9")
    error = client.error(TOOL, {"text": TEXT})
    assert "Cannot connect to vLLM server at http://127.0.0.1:9" in error


def test_connection_that_breaks_is_an_error(speaker: Client, server: ScriptedSpeechServer, tmp_path: Path) -> None:
    server.script(hangs_up, path=PATH)
    assert "connection" in speaker.error(TOOL, {"text": TEXT}).lower()
    assert written(tmp_path) == []


def test_cancelled_call_closes_the_connection(speaker: Client, server: ScriptedSpeechServer, tmp_path: Path) -> None:
    call = speaker.make_call(TOOL, {"text": TEXT})
    closed: list[bool] = []

    def never(request: Any, fields: Json) -> None:
        call.cancellation.set()
        request.connection.settimeout(WAIT_S)
        closed.append(request.connection.recv(1) == b"")

    server.script(never, path=PATH)
    speaker.toolbox.run(call)
    (job,) = speaker.services.jobs.list()
    assert job.wait(WAIT_S)
    until_s = time.monotonic() + WAIT_S
    while not closed and time.monotonic() < until_s:
        time.sleep(0.01)
    assert (job.state, closed, written(tmp_path)) == ("cancelled", [True], [])


def test_job_is_polled_like_all_others(speaker: Client, server: ScriptedSpeechServer) -> None:
    told = facts(speaker, TOOL, {"text": TEXT, "wait_s": 0})
    assert told["status"] == "running"
    done = facts(speaker, "job_status", {"job_id": told["job_id"], "wait_s": WAIT_S})
    assert (done["status"], done["job_id"]) == ("success", told["job_id"])
    assert speaker.result("list_jobs").jobs[0].kind == "speech"


def test_words_become_a_talking_video_and_the_voice_is_kept(
    speaker: Client, server: ScriptedSpeechServer, video: ScriptedVideoServer, face: str, tmp_path: Path
) -> None:
    words = {"image_path": face, "speech_text": TEXT, "voice": "anna", "seed": 3, **SMALL}
    video.made = video_file(size=(64, 48), frames=60, audio="aac")
    video.n_polls = 10

    def slowly(request: Any, fields: Json) -> None:
        time.sleep(0.2)
        server.honest(request, fields)

    server.script(slowly, path=PATH)
    text, _, film, voice = blocks(speaker, TALK, words, progress_token=3)
    told = json.loads(text["text"])
    assert (told["status"], told["audio_duration_seconds"], told["seed"]) == ("success", 3.84, 3)
    assert told["speech"]["parameters_used"]["voice"] == "anna"
    assert told["voice_path"].endswith(".wav")
    assert (film["mimeType"], voice["mimeType"]) == ("video/mp4", "audio/wav")
    assert sorted(written(tmp_path)) == sorted(map(os.path.basename, (told["output_path"], told["voice_path"])))
    assert "data:audio/wav;base64," in video.submitted[0]["audio_reference"]
    messages = " ".join(message["params"]["message"] for message in speaker.sent)
    assert messages.index("making the voice") < messages.index("generating")


def test_first_frame_of_a_clip_speaks_words_too(speaker: Client, video: ScriptedVideoServer, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(video_file(size=(96, 64), audio="aac"))
    video.made = video_file(size=(64, 48), frames=60, audio="aac")
    words = {"video_path": str(tmp_path / "clip.mp4"), "speech_text": TEXT, **SMALL}
    told = facts(speaker, "process_video_to_video", words)
    assert told["method"] == "first frame of the video + audio"
    assert os.path.exists(told["voice_path"])


def test_memory_that_runs_out_on_the_server_is_told(speaker: Client, server: ScriptedSpeechServer) -> None:
    server.model = "somebody/talker"
    server.script(refuses(500, "CUDA out of memory"), path=PATH)
    assert "out of memory. Try a shorter text" in speaker.error(TOOL, {"text": TEXT})


def test_answer_without_an_end_is_not_read_to_it(speaker: Client, server: ScriptedSpeechServer, tmp_path: Path) -> None:
    server.script(never_ends, path=PATH)
    assert "longer than" in speaker.error(TOOL, {"text": "Hi"})
    assert written(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "Give either audio_path"),
        ({"audio_path": "/a.wav", "speech_text": "a"}, "Give either audio_path"),
        ({"audio_path": "/a.wav", "voice": "anna"}, "arguments.voice"),
        ({"speech_text": ""}, "arguments.speech_text"),
        ({"speech_text": TEXT, "voice": "alloy"}, "Invalid voice 'alloy'"),
        ({"speech_text": TEXT, "model_type": "nope"}, "model_type 'nope' is unknown"),
        ({"speech_text": TEXT, "filename": "a.wav"}, "leave .wav out"),
    ],
)
def test_words_and_a_recording_exclude_each_other(
    speaker: Client, video: ScriptedVideoServer, face: str, tmp_path: Path, arguments: Json, text: str
) -> None:
    assert text in speaker.error(TALK, {"image_path": face, **SMALL, **arguments})
    assert (video.submitted, written(tmp_path)) == ([], [])


def test_voice_is_kept_and_told_where_the_video_fails(
    speaker: Client, video: ScriptedVideoServer, face: str, tmp_path: Path
) -> None:
    video.step("job", failed("No audio provided."))
    error = speaker.error(TALK, {"image_path": face, "speech_text": TEXT, **SMALL})
    (kept,) = written(tmp_path)
    assert "No audio provided." in error
    assert f"The voice was made and is kept: {tmp_path / 'out' / kept}" in error


def test_no_voice_is_made_where_no_model_makes_videos(
    speaker: Client, server: ScriptedSpeechServer, video: ScriptedVideoServer, face: str, tmp_path: Path
) -> None:
    video.model = "black-forest-labs/FLUX.2-klein-4B"
    assert "does not make videos from an image and a voice" in speaker.error(
        TALK, {"image_path": face, "speech_text": TEXT, **SMALL}
    )
    assert (server.said(), written(tmp_path)) == ([], [])


def test_voice_that_is_too_long_for_a_video_is_told_and_kept(
    make_client: Callable[..., Client], server: ScriptedSpeechServer, video: ScriptedVideoServer, face: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    client = make_client(
        OMNI_SPEECH_URL=server.url, OMNI_VIDEO_URL=video.url, OMNI_OUTPUT_DIR=str(tmp_path / "out"),
        OMNI_MAX_AUDIO_S="2",
    )  # fmt: skip
    error = client.error(TALK, {"image_path": face, "speech_text": TEXT, **SMALL})
    assert "OMNI_MAX_AUDIO_S" in error
    assert len(written(tmp_path)) == 1
    assert video.submitted == []


@pytest.mark.parametrize("step", ["voice", "video"])
def test_cancelling_stops_the_step_that_runs(
    speaker: Client, server: ScriptedSpeechServer, video: ScriptedVideoServer, face: str, tmp_path: Path, step: str
) -> None:
    if step == "voice":
        server.script(lambda request, fields: time.sleep(1), path=PATH)
    video.n_polls = 10_000
    told = facts(speaker, TALK, {"image_path": face, "speech_text": TEXT, "wait_s": 0, **SMALL})
    until_s = time.monotonic() + WAIT_S
    phase = "making the voice" if step == "voice" else "generating"
    while not str(facts(speaker, "job_status", {"job_id": told["job_id"]}).get("phase")).startswith(phase):
        assert time.monotonic() < until_s
        time.sleep(0.02)
    cancelled = speaker.result("cancel_batch", {"batch_id": told["job_id"]})
    assert cancelled.status == "cancelled"
    kept = [str(tmp_path / "out" / name) for name in written(tmp_path)]
    assert cancelled.files_saved == kept
    assert len(kept) == (step == "video")
    assert video.deleted == (["video_gen_1"] if step == "video" else [])
    ended = facts(speaker, "job_status", {"job_id": told["job_id"]})
    assert ended["status"] == "cancelled"
    assert ended.get("files_kept", []) == kept


def test_cancelling_while_the_voice_is_saved_keeps_it_and_makes_no_video(
    speaker: Client, video: ScriptedVideoServer, face: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = speaker.services.output_folder.save

    def slowly(data: bytes, name: str) -> str:
        time.sleep(1)
        return save(data, name)

    monkeypatch.setattr(speaker.services.output_folder, "save", slowly)
    told = facts(speaker, TALK, {"image_path": face, "speech_text": TEXT, "wait_s": 0, **SMALL})
    until_s = time.monotonic() + WAIT_S
    while facts(speaker, "job_status", {"job_id": told["job_id"]}).get("phase") != "checking the voice":
        assert time.monotonic() < until_s
        time.sleep(0.02)
    cancelled = speaker.result("cancel_batch", {"batch_id": told["job_id"]})
    assert cancelled.status == "cancelled"
    assert cancelled.files_saved == [str(tmp_path / "out" / name) for name in written(tmp_path)]
    assert len(cancelled.files_saved) == 1
    assert video.submitted == []


def test_voices_are_listed(speaker: Client, server: ScriptedSpeechServer) -> None:
    (listed,) = speaker.result("list_available_models").models.speech
    assert (listed.server_url, listed.name) == (server.url, "k2-fsa/OmniVoice")
    assert (listed.voices, listed.uploaded_voices) == (["anna", "default"], ["anna"])


def test_voices_of_a_server_of_images_are_not_claimed(make_client: Callable[..., Client]) -> None:
    with ScriptedOmni() as images:
        (listed,) = make_client(OMNI_URL=images.url).result("list_available_models").models.speech
    assert (listed.name, listed.voices, listed.uploaded_voices) == (IMAGE_MODEL, None, None)
    assert "does not speak" in listed.note


def test_speech_server_is_not_asked_where_there_is_no_tool_for_it(
    make_client: Callable[..., Client], server: ScriptedSpeechServer
) -> None:
    client = make_client(OMNI_SPEECH_URL=server.url, VLLM_TOOLSETS="chat,gpu")
    assert client.result("list_available_models").models.speech == []
    assert server.seen == []


def test_voices_that_are_not_told_are_null(speaker: Client, server: ScriptedSpeechServer) -> None:
    server.script(answers(b"[]"), path="/v1/audio/voices")
    (listed,) = speaker.result("list_available_models").models.speech
    assert (listed.name, listed.voices) == ("k2-fsa/OmniVoice", None)
