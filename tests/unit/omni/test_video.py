"""Talking videos from a scripted server: submitted, waited for, fetched, checked, saved, and deleted over there."""

from __future__ import annotations

import base64
import io
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from media.audio import DecodedAudio, decode_audio
from media.video import check_video
from omni import video as video_module
from omni.errors import InvalidParameters, OutputFailed, ServerRefused, ServerUnreachable
from omni.files import OutputFolder, is_ours
from omni.job import Job, State
from omni.jobs import Jobs
from omni.video import VideoMaker
from omni.video_parameters import VideoWishes
from omni.video_servers import VideoServers
from tests.decoder import DECODER
from tests.scripted_omni import Route, answers, hangs_up, refuses
from tests.scripted_video import NOT_FOUND, ScriptedVideoServer, failed, job_json
from tests.unit.media.recordings import film, recording

WAIT_S = 15.0
SMALL = VideoWishes(width=64, height=48, num_inference_steps=2, seed=7)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asks more often than one would ask a server that makes real videos."""
    monkeypatch.setattr(video_module, "POLL_S", 0.01)
    monkeypatch.setattr(video_module, "MAX_POLL_S", 0.05)


@pytest.fixture(scope="module")
def voice() -> DecodedAudio:
    return decode_audio(recording(seconds=1), 9)


def begun(maker: VideoMaker, jobs: Jobs, voice: DecodedAudio, wishes: VideoWishes = SMALL, **options: Any) -> Job:
    picture = Image.new("RGB", (300, 200), "red")
    plan = jobs.ask(maker.plan("single_original", wishes, picture.size, voice.duration_s))
    return maker.start(plan, picture, voice, from_clip=False, filename=options.get("filename"))


def made(maker: VideoMaker, jobs: Jobs, voice: DecodedAudio, wishes: VideoWishes = SMALL, **options: Any) -> Job:
    job = begun(maker, jobs, voice, wishes, **options)
    assert job.wait(WAIT_S)
    return job


def files_in(tmp_path: Path) -> list[str]:
    return sorted(os.listdir(tmp_path / "out")) if (tmp_path / "out").exists() else []


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
    made(video_maker, jobs, voice, VideoWishes("smiling", 64, 48, None, 3, 2.5, 32, 9))
    (form,) = video_server.submitted
    picture, sound = form.pop("input_reference"), json.loads(form.pop("audio_reference"))["audio_url"]
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
    with Image.open(io.BytesIO(picture)) as image:
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
    (tmp_path / "other.mp4").write_bytes(film())
    (tmp_path / "empty.mp4").touch()
    for name in ("other.mp4", "empty.mp4"):
        with open(tmp_path / name, "rb") as file:
            assert not is_ours(file)


def test_video_without_sound_gets_the_given_one(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio
) -> None:
    video_server.made = film(frames=16)
    result = made(video_maker, jobs, voice).items[0].result
    assert result.facts.has_audio
    assert result.facts.audio_duration_s == pytest.approx(1, abs=0.15)
    assert "the given audio was put to it" in result.notes[0]


def test_other_size_than_asked_for_is_told(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio
) -> None:
    video_server.made = film(size=(80, 48), sound="aac")
    result = made(video_maker, jobs, voice).items[0].result
    assert "80x48 pixels of 64x48" in result.notes[0]
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
    video_server.made = film(frames=frames, sound="aac")
    job = made(video_maker, jobs, voice)
    assert (job.state is State.SUCCEEDED) == is_kept
    assert len(files_in(tmp_path)) == is_kept
    if not is_kept:
        assert f"lasts {frames / 16:.2f} s for 1.00 s of audio" in str(job.items[0].error)


WHOLE = film(frames=20, sound="aac")


@pytest.mark.parametrize(
    ("step", "route", "text"),
    [
        ("content", answers(b""), "no whole video"),
        ("content", answers(b"<html>"), "no whole video"),
        ("content", answers(WHOLE[:-500]), "no whole video"),
        ("content", answers(recording("ipod", "aac")), "no video in this file"),
        ("content", refuses(404, "Generation is still in-progress"), "HTTP 404"),
        ("content", hangs_up, "was lost"),
        ("submit", refuses(400, "size: String should match"), "HTTP 400"),
        ("submit", refuses(503, "not initialized"), "HTTP 503"),
        ("submit", answers(b"[]"), "OMNI_VIDEO_URL"),
        ("submit", answers(job_json("../../etc", "queued")), "id that cannot be one"),
        ("submit", hangs_up, "was lost"),
        ("submit", answers(b"", 307, Location="http://169.254.169.254/"), "redirects"),
        ("job", failed("No reference image provided."), "HTTP 500): No reference image provided"),
        ("job", failed("bad size", 422), "HTTP 422): bad size"),
        ("job", failed("CUDA out of memory. Tried to allocate 2 GiB"), "out-of-memory"),
        ("job", failed("at /home/you/model/x.py: 0x7f00deadbeef"), "at …: …"),
        ("job", answers(NOT_FOUND, 404), "does not know the video any more"),
        ("job", refuses(401, "Unauthorized"), "OMNI_API_KEY"),
        ("job", answers(b"<html>", 200), "list_available_models"),
        ("job", refuses(500, "boom"), "HTTP 500): boom"),
        ("job", hangs_up, "stopped answering while it made the video"),
    ],
)
def test_failures_are_told_and_leave_nothing(
    video_maker: VideoMaker,
    video_server: ScriptedVideoServer,
    jobs: Jobs,
    voice: DecodedAudio,
    tmp_path: Path,
    step: str,
    route: Route,
    text: str,
) -> None:
    video_server.step(step, route)
    job = made(video_maker, jobs, voice)
    error = str(job.items[0].error)
    assert job.state is State.FAILED
    assert text in error
    assert "0x7f00" not in error
    assert files_in(tmp_path) == []
    assert video_server.deleted == ([] if step == "submit" else ["video_gen_1"])


def test_questions_that_get_lost_now_and_then_do_no_harm(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio
) -> None:
    running = answers(job_json("video_gen_1", "in_progress"))
    done = answers(job_json("video_gen_1", "completed"))
    video_server.step("job", hangs_up, hangs_up, running, hangs_up, hangs_up, running, done)
    assert made(video_maker, jobs, voice).state is State.SUCCEEDED


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504, 529])
def test_gateway_that_loses_the_server_for_a_moment_does_no_harm(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio, status: int
) -> None:
    lost = answers(b"<html><title>Tunnel asleep</title></html>", status)
    done = answers(job_json("video_gen_1", "completed"))
    video_server.step("job", lost, lost, lost, lost, done)
    assert made(video_maker, jobs, voice).state is State.SUCCEEDED
    video_server.step("job", lost)
    assert f"HTTP {status}): Tunnel asleep" in str(made(video_maker, jobs, voice).items[0].error)


@pytest.mark.parametrize("word", ["completed", "Succeeded", "done", "finished"])
def test_any_word_for_a_finished_job(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio, word: str
) -> None:
    running = answers(b'{"status": "PROCESSING", "inference_time_s": "soon", "error": {}}')
    video_server.step("job", running, answers(json.dumps({"status": word, "inference_time_s": None}).encode()))
    assert made(video_maker, jobs, voice).state is State.SUCCEEDED


@pytest.mark.parametrize("word", ["failed", "ERROR", "cancelled", "expired"])
def test_any_word_for_a_failed_job(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio, word: str
) -> None:
    video_server.step("job", answers(json.dumps({"status": word, "error": "No face."}).encode()))
    assert "No face." in str(made(video_maker, jobs, voice).items[0].error)


def test_video_that_is_made_is_fetched_again_where_that_breaks(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio
) -> None:
    video_server.step("content", hangs_up, answers(WHOLE))
    assert made(video_maker, jobs, voice).state is State.SUCCEEDED
    video_server.step("content", answers(b"", 503), answers(WHOLE))
    assert made(video_maker, jobs, voice).state is State.SUCCEEDED


def test_video_is_asked_for_again_only_where_the_server_has_not_begun(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio
) -> None:
    video_server.step("submit", refuses(503, "busy"), answers(job_json("video_gen_1", "queued")))
    video_server.jobs["video_gen_1"] = 0
    assert made(video_maker, jobs, voice).state is State.SUCCEEDED
    assert len(video_server.submitted) == 2
    video_server.step("submit", refuses(504, "gave up"))
    assert "may still be in the making" in str(made(video_maker, jobs, voice).items[0].error)
    assert len(video_server.submitted) == 3


@pytest.mark.parametrize("status", [401, 403, 404, 405, 500])
def test_model_that_is_not_told_stops_nothing(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio, status: int
) -> None:
    video_server.step("models", answers(b"", status))
    job = made(video_maker, jobs, voice)
    assert job.state is State.SUCCEEDED
    assert "model" not in video_server.submitted[0]
    assert "does not tell its model" in job.details.plan.notes[0]


def test_addresses_with_the_version_mean_the_same_servers(video_server: ScriptedVideoServer, jobs: Jobs) -> None:
    url = video_server.url
    servers = VideoServers(f"{url}/v1", {"a": f"{url}/v1/", "b": url}, 5.0, None)
    (state,) = jobs.ask(servers.states())
    assert (state.url, state.model_types[:2], state.talks) == (url, ["a", "b"], True)
    assert servers.client("a") is servers.client("single_original")


def test_server_that_dies_in_the_middle_is_given_up_soon(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio, tmp_path: Path
) -> None:
    video_server.n_polls = 10_000
    job = begun(video_maker, jobs, voice)
    wait_for_polls(video_server, 3)
    video_server.socket.close()  # nobody listens any more
    video_server.step("job", hangs_up)
    assert job.wait(WAIT_S)
    assert "stopped answering" in str(job.items[0].error)
    assert files_in(tmp_path) == []


def test_time_is_bounded(video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio, tmp_path: Path) -> None:
    video_server.n_polls = 10_000
    servers = VideoServers(video_server.url, {}, 0.3, None)
    job = made(VideoMaker(servers, OutputFolder(str(tmp_path / "out")), jobs, 0.3, DECODER), jobs, voice)
    assert "did not make the video within 0.3 s" in str(job.items[0].error)
    assert video_server.deleted == ["video_gen_1"]


def wait_for_polls(server: ScriptedVideoServer, n_polls: int) -> None:
    until_s = time.monotonic() + WAIT_S
    while sum(path.startswith("/v1/videos/") for _, path, _ in list(server.seen)) < n_polls:
        assert time.monotonic() < until_s
        time.sleep(0.005)


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
    until_s = time.monotonic() + WAIT_S
    while not video_server.submitted:
        assert time.monotonic() < until_s
        time.sleep(0.005)
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
    assert "sending picture and sound" in phases
    assert "generating (how long it takes is not known before the first video)" in phases
    assert any(phase and "s left, an estimate from 1 earlier video)" in phase for phase in phases)


@pytest.mark.parametrize("filename", ["../x.mp4", "a.png", "-x", "", "a/b", "x" * 300])
def test_bad_names_are_refused_before_anything_is_made(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio, filename: str
) -> None:
    with pytest.raises(InvalidParameters, match="filename"):
        begun(video_maker, jobs, voice, filename=filename)
    assert video_server.submitted == []


def test_folder_that_cannot_be_written_is_found_before_anything_is_made(
    video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio, tmp_path: Path
) -> None:
    (tmp_path / "out").touch()
    maker = VideoMaker(
        VideoServers(video_server.url, {}, 5.0, None), OutputFolder(str(tmp_path / "out")), jobs, 5.0, DECODER
    )
    with pytest.raises(OutputFailed):
        begun(maker, jobs, voice)


def test_server_that_makes_something_else_is_refused_with_what_would_do(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio
) -> None:
    video_server.model = "black-forest-labs/FLUX.2-klein-4B"
    with pytest.raises(ServerRefused, match=r"FLUX\.2-klein-4B, which does not .*Wan2\.2-S2V-14B.*LongCat"):
        begun(video_maker, jobs, voice)


def test_model_that_nobody_knows_is_tried_with_a_warning(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio
) -> None:
    video_server.model = "somebody/talker"
    job = made(video_maker, jobs, voice)
    assert job.state is State.SUCCEEDED
    assert "Nothing is known of the model 'somebody/talker'" in job.details.plan.notes[0]
    video_server.step("job", failed("no such pipeline"))
    assert "Models that are known to make talking videos: Wan-AI" in str(made(video_maker, jobs, voice).items[0].error)


def test_server_that_is_down(jobs: Jobs, voice: DecodedAudio, tmp_path: Path) -> None:
    maker = VideoMaker(
        VideoServers("http://127.0.0.1:9", {}, 5.0, None), OutputFolder(str(tmp_path)), jobs, 5.0, DECODER
    )
    with pytest.raises(ServerUnreachable, match="list_available_models"):
        begun(maker, jobs, voice)


def test_video_that_cannot_be_saved_stays_on_the_server(
    video_maker: VideoMaker, video_server: ScriptedVideoServer, jobs: Jobs, voice: DecodedAudio, tmp_path: Path
) -> None:
    def breaks_the_folder(request: Any, fields: Any) -> None:
        (tmp_path / "out").rmdir()
        (tmp_path / "out").write_bytes(b"")
        answers(WHOLE)(request, fields)

    video_server.step("content", breaks_the_folder)
    job = made(video_maker, jobs, voice)
    assert job.state is State.FAILED
    error = str(job.items[0].error)
    assert "there is a file of that name in the way" in error
    assert f"kept on the server for a while: {video_server.url}/v1/videos/video_gen_1/content" in error
    assert video_server.deleted == []
