"""Talking video: the real server over its pipes, in front of a real vLLM-Omni on the CPU with a tiny Wan2.2-S2V."""

from __future__ import annotations

import base64
import io
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import httpx
import pytest
from PIL import Image

from tests.e2e.images import drawn, png
from tests.e2e.media_answers import content, error, facts
from tests.e2e.omni_server import OmniServer
from tests.e2e.server_process import ServerProcess
from tests.scripted_omni import Request, ScriptedOmni
from tests.unit.media.sample_media import audio_file, raw_wav, video_file

Json = dict[str, Any]
SMALL: Json = {"width": 64, "height": 64, "num_inference_steps": 2}
LONG: Json = {"width": 256, "height": 256, "num_inference_steps": 200}
"""Takes minutes on a CPU where nothing stops it."""
SOON_S = 60.0
IMAGE, CLIP = "process_image_to_video", "process_video_to_video"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def studio(omni_video_server: OmniServer, out: Path) -> Iterator[ServerProcess]:
    """A server of the test's own in front of the shared vLLM-Omni."""
    with ServerProcess({"OMNI_VIDEO_URL": omni_video_server.url, "OMNI_OUTPUT_DIR": str(out)}) as process:
        process.initialize()
        yield process


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Paths of an image, a clip and two voices."""
    folder = tmp_path_factory.mktemp("media")
    made = {
        "face": png(drawn("blue", "circle", "red")),
        "clip": video_file(size=(96, 64), frames=24, audio="aac"),
        "voice": audio_file("mp3", "libmp3lame", 44_100, "stereo", seconds=1),
        "speech": audio_file("ogg", "libopus", 48_000, seconds=3),
    }
    for name, data in made.items():
        (folder / name).write_bytes(data)
    return {name: str(folder / name) for name in made}


def pixels(path: str) -> list[bytes]:
    """All frames of a video."""
    with av.open(path, "r") as container:
        return [frame.to_ndarray(format="rgb24").tobytes() for frame in container.decode(video=0)]


def jobs_on(omni: OmniServer) -> list[Json]:
    """The jobs that the vLLM-Omni server keeps."""
    found: list[Json] = httpx.get(f"{omni.url}/v1/videos", timeout=SOON_S).json()["data"]
    return found


def wait_until_generating(server: ServerProcess, job_id: str) -> None:
    """Waits until the vLLM-Omni server is at work."""
    until_s = time.monotonic() + SOON_S
    while not facts(server, "job_status", {"job_id": job_id}).get("phase", "").startswith("generating"):
        assert time.monotonic() < until_s
        time.sleep(0.05)


def begin_long(server: ServerProcess, media: dict[str, str]) -> str:
    """Starts a job that would take minutes; its id."""
    arguments = {"image_path": media["face"], "audio_path": media["speech"], "wait_s": 0, **LONG}
    return str(facts(server, IMAGE, arguments)["job_id"])


def test_image_and_voice_become_a_video_that_can_be_read(
    studio: ServerProcess, omni_video_server: OmniServer, media: dict[str, str], out: Path
) -> None:
    arguments = {"image_path": media["face"], "audio_path": media["voice"], "seed": 5, "filename": "talk", **SMALL}
    text, image, link = content(studio, IMAGE, arguments)
    told = json.loads(text["text"])
    assert told["output_path"] == str(out / "talk.mp4")
    assert (told["status"], told["model_used"], told["method"]) == ("success", "single_original", "image + audio")
    assert (told["resolution"], told["seed"], told["fps"]) == ("64x64", 5, 16.0)
    assert told["audio_duration_seconds"] == pytest.approx(1, abs=0.1)
    assert told["duration_seconds"] == pytest.approx(1, abs=0.5)
    with av.open(told["output_path"], "r") as container:
        assert sum(1 for _ in container.decode(video=0)) == told["frames"]
        assert container.streams.audio[0].codec_context.name == "aac"
    with Image.open(io.BytesIO(base64.b64decode(image["data"]))) as poster:
        assert poster.size == (64, 64)
    read = studio.request("resources/read", {"uri": link["uri"]})["result"]["contents"][0]
    assert base64.b64decode(read["blob"]) == (out / "talk.mp4").read_bytes()
    assert read["mimeType"] == "video/mp4"
    assert jobs_on(omni_video_server) == []


def test_clip_and_voice(studio: ServerProcess, media: dict[str, str]) -> None:
    told = facts(studio, CLIP, {"video_path": media["clip"], "audio_path": media["voice"], **SMALL})
    assert told["method"] == "first frame of the video + audio"
    assert "the clip's own motion is lost" in told["message"]
    assert len(pixels(told["output_path"])) == told["frames"]


def test_longer_voice_makes_several_clips(studio: ServerProcess, media: dict[str, str]) -> None:
    arguments = {"image_path": media["face"], "audio_path": media["speech"], **SMALL}
    told = facts(studio, IMAGE, {**arguments, "num_frames": 16})
    assert told["frames"] == 3 * 16 - 3
    whole = facts(studio, IMAGE, arguments)
    assert whole["duration_seconds"] == pytest.approx(3, abs=0.4)
    assert whole["audio_duration_seconds"] == pytest.approx(3, abs=0.1)


def test_tiny_model_makes_a_video_in_seconds_where_nobody_says_how(
    studio: ServerProcess, media: dict[str, str]
) -> None:
    begun_s = time.monotonic()
    made = facts(studio, IMAGE, {"image_path": media["face"], "audio_path": media["speech"]})
    assert (made["resolution"], made["parameters_used"]["steps"]) == ("128x128", 4)
    assert made["duration_seconds"] == pytest.approx(3, abs=0.5)
    assert time.monotonic() - begun_s < SOON_S


def test_same_seed_makes_the_same_frames(studio: ServerProcess, media: dict[str, str]) -> None:
    arguments = {"image_path": media["face"], "audio_path": media["voice"], **SMALL}
    first = facts(studio, IMAGE, arguments)
    again = facts(studio, IMAGE, {**arguments, "seed": first["seed"]})
    other = facts(studio, IMAGE, {**arguments, "seed": first["seed"] ^ 1})
    assert pixels(first["output_path"]) == pixels(again["output_path"])
    assert pixels(first["output_path"]) != pixels(other["output_path"])


def test_two_jobs_wait_for_each_other(studio: ServerProcess, media: dict[str, str], out: Path) -> None:
    arguments = {"image_path": media["face"], "audio_path": media["voice"], "wait_s": 0, **SMALL}
    ids = [facts(studio, IMAGE, arguments)["job_id"] for _ in range(2)]
    states = {job["job_id"]: job["status"] for job in studio.result("list_jobs")["jobs"]}
    assert states[ids[1]] == "queued"
    for job_id in ids:
        assert facts(studio, "job_status", {"job_id": job_id, "wait_s": SOON_S})["status"] == "success"
    assert len(os.listdir(out)) == 2


def test_progress_tells_the_phase_and_the_time(studio: ServerProcess, media: dict[str, str]) -> None:
    arguments = {"image_path": media["face"], "audio_path": media["speech"], **SMALL, "num_inference_steps": 40}
    request_id = studio.send_call(IMAGE, arguments, meta={"progressToken": "p"})
    messages = []
    while (message := studio.read_message(SOON_S)).get("id") != request_id:
        messages.append(message["params"]["message"])
    assert all(text.startswith("video_") and text.endswith("s so far") for text in messages)
    assert any("generating" in text for text in messages)


def test_cancelling_deletes_the_job_on_the_server_and_frees_it(
    studio: ServerProcess, omni_video_server: OmniServer, media: dict[str, str], out: Path
) -> None:
    job_id = begin_long(studio, media)
    wait_until_generating(studio, job_id)
    assert len(jobs_on(omni_video_server)) == 1
    cancelled = studio.result("cancel_batch", {"batch_id": job_id})
    assert cancelled["status"] == "cancelled"
    assert jobs_on(omni_video_server) == []
    assert os.listdir(out) == []
    begun_s = time.monotonic()
    facts(studio, IMAGE, {"image_path": media["face"], "audio_path": media["voice"], **SMALL})
    assert time.monotonic() - begun_s < 20
    assert facts(studio, "job_status", {"job_id": job_id})["status"] == "cancelled"


def test_cancelled_call_has_no_answer_and_frees_the_server(
    studio: ServerProcess, omni_video_server: OmniServer, media: dict[str, str]
) -> None:
    arguments = {"image_path": media["face"], "audio_path": media["speech"], **LONG}
    request_id = studio.send_call(IMAGE, arguments, meta={"progressToken": "p"})
    while "generating" not in studio.read_message(SOON_S)["params"]["message"]:
        pass
    studio.notify("notifications/cancelled", {"requestId": request_id})
    (job,) = studio.result("list_jobs")["jobs"]
    facts(studio, "job_status", {"job_id": job["job_id"], "wait_s": SOON_S})
    assert studio.result("list_jobs")["jobs"][0]["status"] == "cancelled"
    assert jobs_on(omni_video_server) == []
    assert not any(message.get("id") == request_id for message in map(json.loads, studio.raw_lines))


class Rewriting(ScriptedOmni):
    """Hands every request on to a real server, with something else in the place of some bytes."""

    def __init__(self, target: str, old: bytes, new: bytes) -> None:
        super().__init__()
        self._target, self._old, self._new = target, old, new

    def honest(self, request: Request, fields: Json) -> None:
        """Asks the real server, and passes on what it says."""
        headers = {"Content-Type": request.headers.get("Content-Type", "")}
        body = fields.get("body", b"").replace(self._old, self._new)
        answer = httpx.request(request.command, self._target + request.path, content=body, headers=headers, timeout=60)
        request.answer(answer.content, answer.status_code)


def test_job_that_fails_on_the_server(
    omni_video_server: OmniServer, media: dict[str, str], out: Path, tmp_path: Path
) -> None:
    """Asking how it is, is answered with HTTP status 500 then. Our own checks let nothing through that fails, so the
    size is changed on the way."""
    with (
        Rewriting(omni_video_server.url, b"64x64", b"66x66") as proxy,
        ServerProcess({"OMNI_URL": proxy.url, "OMNI_OUTPUT_DIR": str(out)}) as server,
    ):
        text = error(server, IMAGE, {"image_path": media["face"], "audio_path": media["voice"], **SMALL})
        assert "HTTP 500" in text
        assert "divisible by 16" in text
        assert [method for method, _, _ in proxy.seen].count("DELETE") == 1
        assert (os.listdir(out), jobs_on(omni_video_server)) == ([], [])
        assert facts(server, IMAGE, {"image_path": media["face"], "audio_path": media["voice"], **SMALL, "width": 80})


def test_server_that_dies_in_the_middle_and_comes_back(media: dict[str, str], out: Path) -> None:
    omni = OmniServer("wan-s2v")
    with omni, ServerProcess({"OMNI_VIDEO_URL": omni.url, "OMNI_OUTPUT_DIR": str(out)}) as server:
        server.initialize()
        job_id = begin_long(server, media)
        wait_until_generating(server, job_id)
        omni.kill()
        assert "stopped responding during the generation" in error(
            server, "job_status", {"job_id": job_id, "wait_s": SOON_S}
        )
        assert os.listdir(out) == []
        arguments = {"image_path": media["face"], "audio_path": media["voice"], **SMALL}
        assert "Cannot connect to vLLM server" in error(server, IMAGE, arguments)
        with OmniServer("wan-s2v", port=omni.port):
            assert facts(server, IMAGE, arguments)["status"] == "success"


def test_server_of_images_is_refused(omni_image_server: OmniServer, media: dict[str, str], out: Path) -> None:
    with ServerProcess({"OMNI_URL": omni_image_server.url, "OMNI_OUTPUT_DIR": str(out)}) as server:
        text = error(server, IMAGE, {"image_path": media["face"], "audio_path": media["voice"], **SMALL})
        assert "does not make videos from an image and a voice" in text
        assert "Wan-AI/Wan2.2-S2V-14B" in text
        assert not out.exists()


def test_servers_are_listed_with_what_they_serve(
    omni_video_server: OmniServer, omni_image_server: OmniServer, media: dict[str, str], out: Path
) -> None:
    settings = {
        "OMNI_URL": omni_image_server.url,
        "OMNI_VIDEO_MODELS": f"wan={omni_video_server.url},multi_original={omni_video_server.url}",
        "OMNI_OUTPUT_DIR": str(out),
    }
    with ServerProcess(settings) as server:
        listed = {entry["server_url"]: entry for entry in server.result("list_available_models")["models"]["video"]}
        assert listed[omni_video_server.url]["model_types"] == ["wan", "multi_original"]
        assert (listed[omni_video_server.url]["talks"], listed[omni_image_server.url]["talks"]) == (True, False)
        arguments = {"image_path": media["face"], "audio_path": media["voice"], **SMALL}
        assert facts(server, IMAGE, {**arguments, "model_type": "wan"})["model_used"] == "wan"
        assert "does not make videos" in error(server, IMAGE, arguments)
        assert facts(server, CLIP, {"video_path": media["clip"], "audio_path": media["voice"], **SMALL})


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (None, "There is no file"),
        (b"", "is empty"),
        (raw_wav(bytes(32_000)), "The audio is silent"),
        (raw_wav(b""), "The audio is too short"),
        (audio_file("flac", "flac", seconds=2)[:9_000], "cut off"),
        (b"#EXTM3U\n#EXTINF:9,\n/etc/passwd\n", "not audio in a supported format"),
        (video_file(), "a video without an audio track"),
    ],
    ids=["missing", "empty", "silent", "0 s", "cut", "playlist", "video without sound"],
)
def test_bad_audio_is_one_clear_error(
    studio: ServerProcess, media: dict[str, str], out: Path, tmp_path: Path, data: bytes | None, text: str
) -> None:
    if data is not None:
        (tmp_path / "bad.wav").write_bytes(data)
    told = error(studio, IMAGE, {"image_path": media["face"], "audio_path": str(tmp_path / "bad.wav"), **SMALL})
    assert text in told
    assert "passwd" not in told
    assert not out.exists()
    studio.assert_serves()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_the_server_at_once_and_frees_the_other(
    studio: ServerProcess, omni_video_server: OmniServer, media: dict[str, str], out: Path, number: signal.Signals
) -> None:
    job_id = begin_long(studio, media)
    wait_until_generating(studio, job_id)
    begun_s = time.monotonic()
    studio.signal(number)
    studio.assert_ends_promptly(begun_s)
    freed = threading.Event()
    until_s = time.monotonic() + SOON_S
    while jobs_on(omni_video_server):
        assert time.monotonic() < until_s
        freed.wait(0.1)
    assert os.listdir(out) == []
