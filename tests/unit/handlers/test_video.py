"""The tools of talking video over a scripted vLLM-Omni server."""

from __future__ import annotations

import base64
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from omni.video import server_jobs
from tests.scripted_omni import MODEL as IMAGE_MODEL
from tests.scripted_omni import ScriptedOmni
from tests.scripted_video import ScriptedVideoServer, failed
from tests.unit.handlers.media_answers import blocks, facts
from tests.unit.handlers.tool_client import Client
from tests.unit.media.sample_media import audio_file, pcm, raw_wav, tone, video_file

pytestmark = pytest.mark.slow

Json = dict[str, Any]
WAIT_S = 15.0
SMALL = {"width": 64, "height": 48, "num_inference_steps": 2}
TOOLS = ("process_image_to_video", "process_video_to_video")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asks more often than one would ask a server that makes real videos."""
    monkeypatch.setattr(server_jobs, "POLL_S", 0.01)
    monkeypatch.setattr(server_jobs, "MAX_POLL_S", 0.05)


@pytest.fixture
def server() -> Iterator[ScriptedVideoServer]:
    with ScriptedVideoServer() as made:
        yield made


@pytest.fixture
def omni_client(make_client: Callable[..., Client], server: ScriptedVideoServer, tmp_path: Path) -> Client:
    """A client whose videos come from the scripted server and go into `out`."""
    return make_client(OMNI_VIDEO_URL=server.url, OMNI_OUTPUT_DIR=str(tmp_path / "out"), OMNI_URL="http://127.0.0.1:9")


@pytest.fixture
def media(tmp_path: Path) -> Json:
    """Paths of an image, a clip and a voice, and the arguments of either tool."""
    paths = {name: str(tmp_path / name) for name in ("face.png", "clip.mp4", "voice.wav")}
    Image.new("RGB", (96, 64), "red").save(paths["face.png"])
    Path(paths["clip.mp4"]).write_bytes(video_file(size=(96, 64), audio="aac"))
    Path(paths["voice.wav"]).write_bytes(audio_file(seconds=1))
    return {
        "process_image_to_video": {"image_path": paths["face.png"], "audio_path": paths["voice.wav"], **SMALL},
        "process_video_to_video": {"video_path": paths["clip.mp4"], "audio_path": paths["voice.wav"], **SMALL},
    }


def written(tmp_path: Path) -> list[str]:
    return os.listdir(tmp_path / "out") if (tmp_path / "out").exists() else []


def test_video_comes_as_facts_poster_and_link(omni_client: Client, media: Json, tmp_path: Path) -> None:
    text, image, link = blocks(omni_client, TOOLS[0], {**media[TOOLS[0]], "seed": 5, "text_prompt": "smiling"})
    told = json.loads(text["text"])
    path = told.pop("output_path")
    assert Path(path).parent == tmp_path / "out"
    assert told.pop("generation_time_seconds") > 0
    assert told.pop("job_id").startswith("video_")
    assert told == {
        "status": "success",
        "model_used": "single_original",
        "message": "The video was generated, checked to its last frame and saved.",
        "method": "image + audio",
        "served_model": "Wan-AI/Wan2.2-S2V-14B",
        "duration_seconds": 1.25,
        "frames": 20,
        "fps": 16.0,
        "resolution": "64x48",
        "audio_duration_seconds": 1.0,
        "seed": 5,
        "parameters_used": {
            "model": "Wan-AI/Wan2.2-S2V-14B", "prompt": "smiling", "width": 64, "height": 48, "steps": 2,
            "guidance_scale": 4.5, "seed": 5, "num_frames": 20, "fps": 16, "audio_s": 1.0,
        },
    }  # fmt: skip
    with Image.open(io.BytesIO(base64.b64decode(image["data"]))) as poster:
        assert (poster.format, poster.size) == ("JPEG", (64, 48))
    assert (link["type"], link["mimeType"], link["uri"]) == ("resource_link", "video/mp4", f"file://{path}")
    assert link["size"] == os.path.getsize(path)


def test_clip_is_animated_from_its_first_frame_and_the_result_says_so(
    omni_client: Client, server: ScriptedVideoServer, media: Json
) -> None:
    told = facts(omni_client, TOOLS[1], media[TOOLS[1]])
    assert (told["method"], told["model_used"]) == ("first frame of the video + audio", "multi_original")
    assert "the clip's own motion is lost" in told["message"]
    with Image.open(io.BytesIO(server.submitted[0]["input_reference"])) as image:
        red = image.getpixel((4, 4))
    assert isinstance(red, tuple)
    assert red[0] > 150


def test_older_revisions_get_no_link_and_no_preview_where_none_is_wanted(omni_client: Client, media: Json) -> None:
    call = omni_client.make_call(TOOLS[0], {**media[TOOLS[0]], "preview": "none"}, revision="2025-03-26")
    assert [block["type"] for block in omni_client.toolbox.run(call)["content"]] == ["text"]


def test_call_that_may_not_wait_answers_with_the_job(
    omni_client: Client, server: ScriptedVideoServer, media: Json
) -> None:
    server.n_polls = 10
    told = facts(omni_client, TOOLS[0], {**media[TOOLS[0]], "wait_s": 0})
    assert told["status"] == "running"
    done = facts(omni_client, "job_status", {"job_id": told["job_id"], "wait_s": WAIT_S})
    assert (done["status"], done["job_id"]) == ("success", told["job_id"])
    assert omni_client.result("list_jobs").jobs[0].kind == "video"


def test_running_job_tells_its_phase(omni_client: Client, server: ScriptedVideoServer, media: Json) -> None:
    server.n_polls = 10_000
    told = facts(omni_client, TOOLS[0], {**media[TOOLS[0]], "wait_s": 2})
    assert told["phase"].startswith("generating")
    assert omni_client.result("cancel_batch", {"batch_id": told["job_id"]}).status == "cancelled"
    assert server.deleted == ["video_gen_1"]
    assert facts(omni_client, "job_status", {"job_id": told["job_id"]})["status"] == "cancelled"


def test_progress_tells_the_phase_and_the_time(omni_client: Client, server: ScriptedVideoServer, media: Json) -> None:
    server.n_polls = 20
    blocks(omni_client, TOOLS[0], media[TOOLS[0]], progress_token=3)
    messages = [message["params"]["message"] for message in omni_client.sent]
    assert messages[0].startswith("video_")
    assert "s so far" in messages[0]


def test_each_phase_of_a_short_job_is_told(omni_client: Client, server: ScriptedVideoServer, media: Json) -> None:
    server.n_polls = 2
    blocks(omni_client, TOOLS[0], media[TOOLS[0]], progress_token=3)
    told = [message["params"] for message in omni_client.sent]
    assert any("generating" in each["message"] for each in told)
    assert [each["progress"] for each in told] == sorted({each["progress"] for each in told})


def test_cancelled_call_deletes_the_job_on_the_server(
    omni_client: Client, server: ScriptedVideoServer, media: Json
) -> None:
    server.n_polls = 10_000
    call = omni_client.make_call(TOOLS[0], media[TOOLS[0]])
    real = server.honest

    def cancel_then_answer(request: Any, fields: Any) -> None:
        if request.path.startswith("/v1/videos/"):
            call.cancellation.set()
        real(request, fields)

    server.honest = cancel_then_answer  # type: ignore[method-assign]
    omni_client.toolbox.run(call)
    (job,) = omni_client.services.jobs.list()
    assert job.wait(WAIT_S)
    assert (job.state, server.deleted) == ("cancelled", ["video_gen_1"])


def test_failed_job_is_an_error(omni_client: Client, server: ScriptedVideoServer, media: Json, tmp_path: Path) -> None:
    server.step("job", failed("No audio provided."))
    assert "HTTP 500): No audio provided." in omni_client.error(TOOLS[0], media[TOOLS[0]])
    assert written(tmp_path) == []


def test_names_of_servers_lead_to_servers(
    make_client: Callable[..., Client], server: ScriptedVideoServer, media: Json, tmp_path: Path
) -> None:
    with ScriptedVideoServer("meituan-longcat/LongCat-Video-Avatar") as other:
        client = make_client(
            OMNI_URL=server.url,
            OMNI_VIDEO_MODELS=f"longcat={other.url} multi_int8={other.url}",
            OMNI_OUTPUT_DIR=str(tmp_path / "out"),
        )
        used = {
            name: facts(client, TOOLS[0], {**media[TOOLS[0]], "num_frames": frames, "model_type": name})["served_model"]
            for name, frames in (("longcat", 17), ("multi_int8", 17), ("multi_fp8", 16), ("multitalk_original", 16))
        }
        longcat, wan = "meituan-longcat/LongCat-Video-Avatar", "Wan-AI/Wan2.2-S2V-14B"
        assert used == {"longcat": longcat, "multi_int8": longcat, "multi_fp8": wan, "multitalk_original": wan}
        error = client.error(TOOLS[0], {**media[TOOLS[0]], "model_type": "infinitetalk"})
        assert "'infinitetalk' is unknown. Use one of: longcat, multi_int8, single_original" in error
        listed = client.result("list_available_models")
    shown = {entry.server_url: entry for entry in listed.models.video}
    assert shown[other.url].model_types == ["longcat", "multi_int8"]
    assert (shown[other.url].name, shown[other.url].talks) == (longcat, True)
    assert len(shown[server.url].model_types) == 8
    assert listed.total_count == 2 + sum(
        map(len, (listed.models.configured, listed.models.bundled, listed.models.cached, listed.models.suggested))
    )


def test_servers_that_cannot_talk_are_listed_and_refused(
    make_client: Callable[..., Client], media: Json, tmp_path: Path
) -> None:
    with ScriptedOmni() as images, ScriptedVideoServer("somebody/talker") as unknown:
        named = f"unknown={unknown.url} down=http://127.0.0.1:9"
        client = make_client(OMNI_URL=images.url, OMNI_VIDEO_MODELS=named, OMNI_OUTPUT_DIR=str(tmp_path / "out"))
        listed = {entry.server_url: entry for entry in client.result("list_available_models").models.video}
        assert (listed[images.url].name, listed[images.url].talks) == (IMAGE_MODEL, False)
        assert (listed[unknown.url].name, listed[unknown.url].talks) == ("somebody/talker", None)
        assert (listed["http://127.0.0.1:9"].name, listed["http://127.0.0.1:9"].talks) == (None, None)
        assert "There is no server at this address" in listed["http://127.0.0.1:9"].note
        error = client.error(TOOLS[0], media[TOOLS[0]])
    assert "does not make videos from an image and a voice" in error
    assert "Wan-AI/Wan2.2-S2V-14B and meituan-longcat/LongCat-Video-Avatar" in error
    assert "Cannot connect to vLLM server" in client.error(TOOLS[0], {**media[TOOLS[0]], "model_type": "down"})


def test_servers_of_videos_are_not_asked_where_there_are_no_tools_for_them(
    make_client: Callable[..., Client], server: ScriptedVideoServer
) -> None:
    client = make_client(OMNI_VIDEO_URL=server.url, VLLM_TOOLSETS="chat,gpu")
    assert client.result("list_available_models").models.video == []
    assert server.seen == []


BAD_AUDIO = {
    "missing": (None, "There is no file"),
    "empty": (b"", "is empty"),
    "0 s": (raw_wav(b""), "The audio is too short"),
    "silent": (raw_wav(bytes(32_000)), "The audio is silent"),
    "corrupt": (b"ID3\x04\0\0\0\0\0\0\xff\xfb\x90\x44" + b"\xa5" * 5_000, "damaged|empty|silent"),
    "cut": (raw_wav(pcm(tone(16_000, 1)), data_size=10**8), "cut off"),
    "too long": (raw_wav(pcm(tone(8_000, 9)), rate=8_000), "OMNI_MAX_AUDIO_S"),
    "text": (b"not sound at all", "not audio in a supported format"),
    "playlist": (b"#EXTM3U\n#EXTINF:9,\nfile:///etc/passwd\n", "not audio in a supported format"),
    "silent video": (video_file(), "a video without an audio track"),
}


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("name", BAD_AUDIO)
def test_bad_audio_is_an_error_and_nothing_is_made(
    make_client: Callable[..., Client],
    server: ScriptedVideoServer,
    media: Json,
    tmp_path: Path,
    tool: str,
    name: str,
) -> None:
    client = make_client(OMNI_VIDEO_URL=server.url, OMNI_OUTPUT_DIR=str(tmp_path / "out"), OMNI_MAX_AUDIO_S="8")
    data, text = BAD_AUDIO[name]
    path = tmp_path / "bad"
    if data is not None:
        path.write_bytes(data)
    error = client.error(tool, {**media[tool], "audio_path": str(path)})
    assert error.startswith("arguments.audio_path: ")
    assert any(part in error for part in text.split("|"))
    assert (server.submitted, written(tmp_path)) == ([], [])


@pytest.mark.parametrize(
    ("tool", "arguments", "text"),
    [
        (TOOLS[0], {"image_path": "{voice}"}, "arguments.image_path: This is not an image"),
        (TOOLS[0], {"image_path": "{clip}"}, "arguments.image_path: This is not an image"),
        (TOOLS[0], {"image_path": "{face}", "audio_path": "{face}"}, "arguments.audio_path: This is not audio"),
        (TOOLS[1], {"video_path": "{face}"}, "arguments.video_path: This is not video"),
        (TOOLS[1], {"video_path": "{voice}"}, "arguments.video_path: There is no video"),
        (TOOLS[1], {"video_path": "concat:{clip}|{clip}"}, "arguments.video_path: There is no file"),
        (TOOLS[0], {"audio_path": "-i"}, "arguments.audio_path: There is no file"),
        (TOOLS[0], {"audio_path": "pipe:0"}, "arguments.audio_path: There is no file"),
        (TOOLS[0], {"audio_path": "http://127.0.0.1/a.wav"}, "VLLM_ALLOWED_MEDIA_HOSTS"),
        (TOOLS[0], {"audio_path": "rtsp://127.0.0.1/a"}, "only http, https, data and file"),
        (TOOLS[0], {"audio_path": "/dev/zero"}, "arguments.audio_path"),
        (TOOLS[0], {"audio_path": ""}, "arguments.audio_path"),
        (TOOLS[0], {"video_path": "{clip}"}, "video_path"),
        (TOOLS[0], {"width": 100}, "both width and height|multiple of 16"),
        (TOOLS[0], {"width": 8_192, "height": 64}, "arguments.width"),
        (TOOLS[0], {"num_frames": 30}, "num_frames 30 is not a multiple of 4"),
        (TOOLS[0], {"num_inference_steps": 0}, "arguments.num_inference_steps"),
        (TOOLS[0], {"num_inference_steps": 10**6}, "arguments.num_inference_steps"),
        (TOOLS[0], {"seed": -1}, "arguments.seed"),
        (TOOLS[0], {"seed": 2**64}, "arguments.seed"),
        (TOOLS[0], {"guidance_scale": 21}, "arguments.guidance_scale"),
        (TOOLS[0], {"aspect_ratio": "1:100"}, "aspect ratio"),
        (TOOLS[0], {"filename": "../../x.mp4"}, "filename"),
        (TOOLS[0], {"filename": "x.png"}, "filename"),
        (TOOLS[0], {"model_type": "nope"}, "model_type 'nope' is unknown"),
        (TOOLS[0], {"model_type": 3}, "arguments.model_type"),
        (TOOLS[0], {"wait_s": -1}, "arguments.wait_s"),
    ],
)
def test_bad_arguments_are_refused_and_nothing_is_made(
    omni_client: Client,
    server: ScriptedVideoServer,
    media: Json,
    tmp_path: Path,
    tool: str,
    arguments: Json,
    text: str,
) -> None:
    places = {"{face}": "face.png", "{clip}": "clip.mp4", "{voice}": "voice.wav"}
    for name, value in arguments.items():
        for place, file in places.items():
            if isinstance(value, str):
                arguments[name] = value = value.replace(place, str(tmp_path / file))
    error = omni_client.error(tool, {**media[tool], **arguments})
    assert any(part in error for part in text.split("|")), error
    assert (server.submitted, written(tmp_path)) == ([], [])


def test_media_may_be_data_urls(omni_client: Client, media: Json) -> None:
    arguments = dict(media[TOOLS[0]])
    for name, kind in (("image_path", "image/png"), ("audio_path", "audio/wav")):
        arguments[name] = f"data:{kind};base64," + base64.b64encode(Path(arguments[name]).read_bytes()).decode()
    assert facts(omni_client, TOOLS[0], arguments)["status"] == "success"


def test_file_that_is_taken_is_not_overwritten(omni_client: Client, media: Json, tmp_path: Path) -> None:
    names = [
        Path(facts(omni_client, TOOLS[0], {**media[TOOLS[0]], "filename": "a"})["output_path"]).name for _ in range(2)
    ]
    assert names == ["a.mp4", "a_2.mp4"]


def test_deadline_of_the_call_ends_the_waiting(omni_client: Client, server: ScriptedVideoServer, media: Json) -> None:
    server.n_polls = 10_000
    told = facts(omni_client, TOOLS[0], media[TOOLS[0]], timeout_s=1.0)
    assert told["status"] == "running"
