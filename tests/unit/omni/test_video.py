"""Talking videos from a scripted server: submitted, waited for, fetched, checked, saved, and deleted over there."""

from __future__ import annotations

import base64
import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from media.decoding.audio import DecodedAudio
from media.decoding.video import check_video
from omni.errors import InvalidParameters
from omni.files.metadata import is_ours
from omni.jobs.job import State
from omni.jobs.jobs import Jobs
from omni.video.generate import VideoMaker
from omni.video.parameters import VideoOptions
from omni.video.servers import VideoServers
from tests.scripted_omni import answers
from tests.scripted_video import ScriptedVideoServer, failed, job_json
from tests.unit.media.sample_media import video_file
from tests.unit.omni.video_samples import WAIT_S, begun, files_in, made, wait_for_polls
from tests.waiting import wait_until

pytestmark = pytest.mark.slow


def test_video_is_made_checked_saved_and_deleted_on_the_server(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio, tmp_path: Path
) -> None:
    job = made(video_maker, jobs, voice, filename="mine")
    result = job.items[0].result
    assert job.state is State.SUCCEEDED, job.items[0].error
    assert result.file_path == str(tmp_path / "out" / "mine.mp4")
    assert (result.facts.width, result.facts.height, result.facts.frames) == (64, 48, 20)
    assert result.facts.has_audio
    assert video_server.deleted == ["video_gen_1"]
    assert check_video(Path(result.file_path).read_bytes()) == result.facts
    assert files_in(tmp_path) == ["mine.mp4"]


def test_request_has_everything_that_decides_how_the_video_looks(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio
) -> None:
    made(video_maker, jobs, voice, VideoOptions("smiling", 64, 48, None, 3, 2.5, 32, 9))
    (form,) = video_server.submitted
    shown, sound = form.pop("input_reference"), json.loads(form.pop("audio_reference"))["audio_url"]
    assert form == {
        "model": "Wan-AI/Wan2.2-S2V-14B",
        "prompt": "smiling",
        "size": "64x48",
        "num_frames": "32",
        "fps": "16",
        "num_inference_steps": "3",
        "guidance_scale": "2.5",
        "seed": "9",
    }
    with Image.open(io.BytesIO(shown)) as image:
        assert (image.format, image.size, image.getpixel((0, 0))) == ("PNG", (64, 48), (255, 0, 0))
    head, _, encoded = sound.partition(",")
    assert head == "data:audio/wav;base64"
    assert base64.b64decode(encoded) == voice.wav


def test_file_carries_its_parameters_and_is_known_as_ours(
    video_maker: VideoMaker, jobs: Jobs, voice: DecodedAudio, tmp_path: Path
) -> None:
    result = made(video_maker, jobs, voice).items[0].result
    data = Path(result.file_path).read_bytes()
    assert b'"seed":7' in data[-400:]
    with open(result.file_path, "rb") as file:
        assert is_ours(file)
    (tmp_path / "other.mp4").write_bytes(video_file())
    (tmp_path / "empty.mp4").touch()
    for name in ("other.mp4", "empty.mp4"):
        with open(tmp_path / name, "rb") as file:
            assert not is_ours(file)


def test_video_without_sound_gets_the_given_one(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio
) -> None:
    video_server.made = video_file(frames=16)
    result = made(video_maker, jobs, voice).items[0].result
    assert result.facts.has_audio
    assert result.facts.audio_duration_s == pytest.approx(1, abs=0.15)
    assert "the given audio was added" in result.notes[0]


def test_other_size_than_asked_for_is_told(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio
) -> None:
    video_server.made = video_file(size=(80, 48), audio="aac")
    result = made(video_maker, jobs, voice).items[0].result
    assert "80x48 pixels instead of 64x48" in result.notes[0]
    assert (result.parameters.width, result.parameters.height) == (80, 48)


@pytest.mark.parametrize(("frames", "is_kept"), [(6, False), (10, True), (16, True), (30, True), (60, False)])
def test_length_must_be_near_that_of_the_sound(
    video_maker: VideoMaker,
    video_server: ScriptedVideoServer,
    jobs: Jobs,
    voice: DecodedAudio,
    tmp_path: Path,
    frames: int,
    is_kept: bool,
) -> None:
    video_server.made = video_file(frames=frames, audio="aac")
    job = made(video_maker, jobs, voice)
    assert (job.state is State.SUCCEEDED) == is_kept
    assert len(files_in(tmp_path)) == is_kept
    if not is_kept:
        assert f"lasts {frames / 16:.2f} s for 1.00 s of audio" in str(job.items[0].error)


@pytest.mark.parametrize("word", ["completed", "Succeeded", "done", "finished"])
def test_any_word_for_a_finished_job(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio, word: str
) -> None:
    running = answers(b'{"status": "PROCESSING", "inference_time_s": "soon", "error": {}}')
    video_server.step("job", running, answers(json.dumps({"status": word, "inference_time_s": None}).encode()))
    assert made(video_maker, jobs, voice).state is State.SUCCEEDED


@pytest.mark.parametrize("status", [401, 403, 404, 405, 500])
def test_model_that_is_not_told_stops_nothing(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio, status: int
) -> None:
    video_server.step("models", answers(b"", status))
    job = made(video_maker, jobs, voice)
    assert job.state is State.SUCCEEDED
    assert "model" not in video_server.submitted[0]
    assert "does not report its model" in job.plan.notes[0]


def test_addresses_with_the_version_mean_the_same_servers(video_server: ScriptedVideoServer, jobs: Jobs) -> None:
    url = video_server.url
    servers = VideoServers(f"{url}/v1", {"a": f"{url}/v1/", "b": url}, 5.0, None)
    (state,) = jobs.ask(servers.states())
    assert (state.url, state.model_types[:2], state.talks) == (url, ["a", "b"], True)
    assert servers.client("a") is servers.client("single_original")


def test_cancelled_job_is_deleted_on_the_server(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio, tmp_path: Path
) -> None:
    video_server.n_polls = 10_000
    job = begun(video_maker, jobs, voice)
    wait_for_polls(video_server, 2)
    jobs.cancel(job)
    assert job.wait(WAIT_S)
    assert (job.state, video_server.deleted, files_in(tmp_path)) == (State.CANCELLED, ["video_gen_1"], [])


def test_job_cancelled_while_it_is_being_submitted_is_deleted_as_well(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio
) -> None:
    def slowly(request: Any, fields: Any) -> None:
        time.sleep(0.3)
        request.answer(job_json("video_gen_1", "queued"))

    video_server.step("submit", slowly)
    job = begun(video_maker, jobs, voice)
    wait_until(lambda: video_server.submitted)
    jobs.cancel(job)
    assert job.wait(WAIT_S)
    assert (job.state, video_server.deleted) == (State.CANCELLED, ["video_gen_1"])


def test_videos_are_made_one_after_another(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio, tmp_path: Path
) -> None:
    video_server.n_polls = 20
    first, second = begun(video_maker, jobs, voice), begun(video_maker, jobs, voice)
    wait_for_polls(video_server, 2)
    assert (first.state, second.state, len(video_server.submitted)) == (State.RUNNING, State.QUEUED, 1)
    assert first.wait(WAIT_S)
    assert second.wait(WAIT_S)
    assert second.state is State.SUCCEEDED
    assert len(files_in(tmp_path)) == 2


def test_phase_tells_an_estimate_once_there_is_something_to_estimate_from(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio
) -> None:
    video_server.n_polls = 10
    phases = []
    for _ in range(2):
        job = begun(video_maker, jobs, voice)
        while not job.wait(0.002):
            phases.append(job.phase)
    assert "sending image and audio" in phases
    assert "generating (the duration is unknown before the first video)" in phases
    assert any(phase and "s left, an estimate from 1 earlier video)" in phase for phase in phases)


@pytest.mark.parametrize("filename", ["../x.mp4", "a.png", "-x", "", "a/b", "x" * 300])
def test_bad_names_are_refused_before_anything_is_made(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio, filename: str
) -> None:
    with pytest.raises(InvalidParameters, match="filename"):
        begun(video_maker, jobs, voice, filename=filename)
    assert video_server.submitted == []


def test_model_that_nobody_knows_is_tried_with_a_warning(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio
) -> None:
    video_server.model = "somebody/talker"
    job = made(video_maker, jobs, voice)
    assert job.state is State.SUCCEEDED
    assert "The model 'somebody/talker' is unknown" in job.plan.notes[0]
    video_server.step("job", failed("no such pipeline"))
    assert "Models known to make talking videos: Wan-AI" in str(made(video_maker, jobs, voice).items[0].error)
