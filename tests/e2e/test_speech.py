"""Speech: the real server over its pipes, in front of a real vLLM-Omni on the CPU with a tiny OmniVoice."""

from __future__ import annotations

import base64
import io
import json
import os
import time
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
import numpy.typing as npt
import pytest

from tests.e2e.images import drawn, png
from tests.e2e.media_answers import content, error, facts
from tests.e2e.omni_server import OmniServer
from tests.e2e.server_process import ServerProcess
from tests.scripted_omni import refuses
from tests.scripted_speech import FAILURES, PATH, ScriptedSpeechServer
from tests.unit.media.sample_media import audio_file

Json = dict[str, Any]
TOOL, TALK = "generate_speech", "process_image_to_video"
TEXT = "The quick brown fox jumps over the lazy dog, and then it sleeps."
LONG = "The quick brown fox jumps over the lazy dog. " * 110
"""Takes minutes on a CPU where nothing stops it."""
SMALL: Json = {"width": 64, "height": 64, "num_inference_steps": 2}
SOON_S = 90.0


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def speaker(omni_speech_server: OmniServer, out: Path) -> Iterator[ServerProcess]:
    """A server of the test's own in front of the shared vLLM-Omni."""
    with ServerProcess({"OMNI_SPEECH_URL": omni_speech_server.url, "OMNI_OUTPUT_DIR": str(out)}) as process:
        process.initialize()
        yield process


def samples(path: str | Path) -> npt.NDArray[np.int16]:
    """All samples of a sound, as 16-bit numbers of one channel."""
    with av.open(str(path), "r") as container:
        resampler = av.AudioResampler(format="s16", layout="mono")
        frames = [part for frame in container.decode(audio=0) for part in resampler.resample(frame)]
        return np.concatenate([frame.to_ndarray()[0] for frame in frames])


@pytest.mark.parametrize("kind", ["wav", "mp3", "flac"])
def test_text_becomes_a_file_that_can_be_read(speaker: ServerProcess, out: Path, kind: str) -> None:
    text, link = content(speaker, TOOL, {"text": TEXT, "format": kind, "seed": 5, "filename": "said"})
    told = json.loads(text["text"])
    assert told["file_path"] == str(out / f"said.{kind}")
    assert (told["status"], told["format"], told["seed"], told["sample_rate"]) == ("success", kind, 5, 24_000)
    sound = samples(told["file_path"])
    assert len(sound) / 24_000 == pytest.approx(told["duration_seconds"], abs=0.1)
    assert 2 < told["duration_seconds"] < 8
    assert np.abs(sound.astype(int)).max() > 300
    read = speaker.request("resources/read", {"uri": link["uri"]})["result"]["contents"][0]
    data = base64.b64decode(read["blob"])
    assert data == (out / f"said.{kind}").read_bytes()
    assert json.dumps(TEXT).encode() in data
    assert read["mimeType"] == {"wav": "audio/wav", "mp3": "audio/mpeg", "flac": "audio/flac"}[kind]


def test_same_seed_makes_the_same_samples(speaker: ServerProcess) -> None:
    first = facts(speaker, TOOL, {"text": TEXT})
    again = facts(speaker, TOOL, {"text": TEXT, "seed": first["seed"]})
    other = facts(speaker, TOOL, {"text": TEXT, "seed": first["seed"] ^ 1})
    sound = samples(first["file_path"])
    assert np.array_equal(sound, samples(again["file_path"]))
    assert not np.array_equal(sound, samples(other["file_path"]))


def test_recording_changes_the_voice(speaker: ServerProcess, tmp_path: Path) -> None:
    recording = tmp_path / "voice.mp3"
    recording.write_bytes(audio_file("mp3", "libmp3lame", 44_100, "stereo", seconds=3))
    plain = facts(speaker, TOOL, {"text": TEXT, "seed": 5})
    cloned = {"text": TEXT, "seed": 5, "reference_audio": str(recording)}
    with_text = {**cloned, "reference_text": "It hums."}
    made = [facts(speaker, TOOL, arguments) for arguments in (cloned, with_text, cloned)]
    sounds = [samples(each["file_path"]) for each in (plain, *made)]
    assert np.array_equal(sounds[1], sounds[3])
    assert not np.array_equal(sounds[0], sounds[1])
    assert not np.array_equal(sounds[1], sounds[2])


def test_unknown_voice_is_refused_with_the_voices(speaker: ServerProcess, out: Path) -> None:
    assert "Invalid voice 'alloy'. Supported: default" in error(speaker, TOOL, {"text": TEXT, "voice": "alloy"})
    assert os.listdir(out) == []
    assert facts(speaker, TOOL, {"text": TEXT, "voice": "default"})["voice"] == "default"


def test_speed_shortens_the_speech(speaker: ServerProcess) -> None:
    usual = facts(speaker, TOOL, {"text": TEXT, "seed": 5})
    fast = facts(speaker, TOOL, {"text": TEXT, "seed": 5, "speed": 2})
    assert fast["duration_seconds"] == pytest.approx(usual["duration_seconds"] / 2, rel=0.1)


def test_voices_are_listed(speaker: ServerProcess, omni_speech_server: OmniServer) -> None:
    (listed,) = speaker.result("list_available_models")["models"]["speech"]
    assert listed["server_url"] == omni_speech_server.url
    assert listed["name"].endswith("tiny-omnivoice")
    assert (listed["voices"], listed["uploaded_voices"]) == (["default"], [])


def test_uploaded_voice_is_listed_and_speaks(speaker: ServerProcess, omni_speech_server: OmniServer) -> None:
    url = f"{omni_speech_server.url}/v1/audio/voices"
    file = {"audio_sample": ("voice.wav", audio_file(rate=24_000, seconds=3), "audio/wav")}
    answer = httpx.post(url, data={"name": "humming", "consent": "mine", "ref_text": "Hm."}, files=file, timeout=SOON_S)
    assert answer.status_code == 200, answer.text
    try:
        (listed,) = speaker.result("list_available_models")["models"]["speech"]
        assert "humming" in listed["voices"]
        assert listed["uploaded_voices"] == ["humming"]
        uploaded = facts(speaker, TOOL, {"text": TEXT, "seed": 5, "voice": "humming"})
        usual = facts(speaker, TOOL, {"text": TEXT, "seed": 5})
        assert uploaded["voice"] == "humming"
        assert not np.array_equal(samples(uploaded["file_path"]), samples(usual["file_path"]))
    finally:
        httpx.delete(f"{url}/humming", timeout=SOON_S)
    assert "Invalid voice 'humming'" in error(speaker, TOOL, {"text": TEXT, "voice": "humming"})


def test_cancelled_job_leaves_no_file_and_frees_the_server(speaker: ServerProcess, out: Path) -> None:
    job_id = facts(speaker, TOOL, {"text": LONG, "wait_s": 0})["job_id"]
    until_s = time.monotonic() + SOON_S
    while facts(speaker, "job_status", {"job_id": job_id}).get("phase") != "making the voice":
        assert time.monotonic() < until_s
        time.sleep(0.05)
    time.sleep(0.5)
    assert speaker.result("cancel_batch", {"batch_id": job_id})["status"] == "cancelled"
    assert os.listdir(out) == []
    begun_s = time.monotonic()
    facts(speaker, TOOL, {"text": "And again."})
    assert time.monotonic() - begun_s < 20


def test_words_become_a_video_with_that_voice(
    omni_speech_server: OmniServer, omni_video_server: OmniServer, out: Path, tmp_path: Path
) -> None:
    face = tmp_path / "face.png"
    face.write_bytes(png(drawn("blue", "circle", "red")))
    settings = {
        "OMNI_SPEECH_URL": omni_speech_server.url,
        "OMNI_VIDEO_URL": omni_video_server.url,
        "OMNI_OUTPUT_DIR": str(out),
    }
    with ServerProcess(settings) as server:
        server.initialize()
        arguments = {"image_path": str(face), "speech_text": TEXT, "seed": 5, **SMALL}
        request_id = server.send_call(TALK, arguments, meta={"progressToken": "p"})
        phases = []
        while (message := server.read_message(SOON_S)).get("id") != request_id:
            phases.append(message["params"]["message"])
        assert not message["result"]["isError"], message
        text, image, film, voice = message["result"]["content"]
    told = json.loads(text["text"])
    assert "making the voice" in " ".join(phases)
    assert (image["type"], film["mimeType"], voice["mimeType"]) == ("image", "video/mp4", "audio/wav")
    assert sorted(os.listdir(out)) == sorted(map(os.path.basename, (told["output_path"], told["voice_path"])))
    assert told["audio_duration_seconds"] == pytest.approx(told["speech"]["duration_seconds"], abs=0.05)
    assert told["duration_seconds"] == pytest.approx(told["audio_duration_seconds"], abs=0.6)
    assert is_the_same_sound(samples(told["voice_path"]), samples(told["output_path"]))


def is_the_same_sound(voice: npt.NDArray[np.int16], track: npt.NDArray[np.int16]) -> bool:
    """Whether a track of 16 kHz, compressed, has the samples of a voice of 24 kHz."""
    times = np.arange(len(track)) / 16_000
    wanted = np.interp(times, np.arange(len(voice)) / 24_000, voice)
    size = 1 << 17
    product = np.fft.irfft(np.fft.rfft(track, size) * np.conj(np.fft.rfft(wanted, size)))
    likeness = product.max() / (np.linalg.norm(track.astype(float)) * np.linalg.norm(wanted))
    return bool(likeness > 0.8)


def test_server_of_images_is_refused(omni_image_server: OmniServer, out: Path) -> None:
    with ServerProcess({"OMNI_URL": omni_image_server.url, "OMNI_OUTPUT_DIR": str(out)}) as server:
        text = error(server, TOOL, {"text": TEXT})
        assert "which does not speak" in text
        assert "OMNI_SPEECH_URL" in text
        assert not out.exists()
        (listed,) = server.result("list_available_models")["models"]["speech"]
        assert listed["voices"] is None


def test_bad_answers_are_one_clear_error_each_and_leave_nothing(out: Path) -> None:
    with (
        ScriptedSpeechServer() as scripted,
        ServerProcess({"OMNI_SPEECH_URL": scripted.url, "OMNI_OUTPUT_DIR": str(out)}) as server,
    ):
        server.initialize()
        for route, text in FAILURES.values():
            scripted.script(route, path=PATH)
            assert text in error(server, TOOL, {"text": TEXT})
            assert os.listdir(out) == []
        scripted.script(refuses(500, "boom"), scripted.honest, path=PATH)
        assert "boom" in error(server, TOOL, {"text": TEXT})
        assert facts(server, TOOL, {"text": TEXT})["status"] == "success"


def test_file_of_the_wav_format_keeps_its_samples(speaker: ServerProcess) -> None:
    """The mark of this server comes after the samples, whose header stays right."""
    told = facts(speaker, TOOL, {"text": TEXT, "seed": 5})

    with wave.open(io.BytesIO(Path(told["file_path"]).read_bytes())) as file:
        assert file.getnframes() == len(samples(told["file_path"]))
