"""`generate_video` over scripted vLLM-Omni servers."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from omni.video import server_jobs, servers
from tests.scripted_omni import ScriptedOmni, answers
from tests.scripted_video import FROM_WORDS_MODEL, ScriptedVideoServer, failed
from tests.unit.handlers.media_answers import blocks, facts
from tests.unit.handlers.tool_client import Client
from tests.unit.media.sample_media import video_file

pytestmark = pytest.mark.slow

Json = dict[str, Any]
Three = tuple[Client, dict[str, ScriptedVideoServer]]
TOOL = "generate_video"
SMALL: Json = {"prompt": "a ball", "width": 64, "height": 64, "num_frames": 9, "num_inference_steps": 2}
T2V, I2V = "Wan-AI/Wan2.2-T2V-A14B-Diffusers", "Wan-AI/Wan2.2-I2V-A14B-Diffusers"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asks more often than one would ask a server that makes real videos."""
    monkeypatch.setattr(server_jobs, "POLL_S", 0.01)
    monkeypatch.setattr(server_jobs, "MAX_POLL_S", 0.05)


@pytest.fixture
def server() -> Iterator[ScriptedVideoServer]:
    """A server whose model takes words, with an image or without."""
    with ScriptedVideoServer(FROM_WORDS_MODEL) as made:
        yield made


@pytest.fixture
def studio(make_client: Callable[..., Client], server: ScriptedVideoServer, tmp_path: Path) -> Client:
    """A client whose videos come from the scripted server and go into `out`."""
    return make_client(OMNI_VIDEO_URL=server.url, OMNI_OUTPUT_DIR=str(tmp_path / "out"), OMNI_URL="http://127.0.0.1:9")


@pytest.fixture
def image(tmp_path: Path) -> str:
    path = tmp_path / "image.png"
    Image.new("RGB", (96, 64), "red").save(path)
    return str(path)


def written(tmp_path: Path) -> list[str]:
    return os.listdir(tmp_path / "out") if (tmp_path / "out").exists() else []


def test_video_comes_as_facts_poster_and_link(studio: Client, server: ScriptedVideoServer, tmp_path: Path) -> None:
    text, image, link = blocks(studio, TOOL, {**SMALL, "seed": 5, "negative_prompt": "rain"})
    told = json.loads(text["text"])
    path = told.pop("output_path")
    assert Path(path).parent == tmp_path / "out"
    assert told.pop("generation_time_seconds") > 0
    assert told.pop("job_id").startswith("video_")
    assert told == {
        "status": "success",
        "server_url": server.url,
        "message": "The video was generated, checked to its last frame and saved.",
        "method": "text",
        "served_model": FROM_WORDS_MODEL,
        "duration_seconds": 0.375,
        "frames": 9,
        "fps": 24.0,
        "resolution": "64x64",
        "has_audio": False,
        "seed": 5,
        "parameters_used": {
            "model": FROM_WORDS_MODEL, "prompt": "a ball", "width": 64, "height": 64, "steps": 2,
            "guidance_scale": 5.0, "seed": 5, "num_frames": 9, "fps": 24, "negative_prompt": "rain",
            "model_fields": {"flow_shift": 5.0},
        },
    }  # fmt: skip
    assert image["mimeType"] == "image/jpeg"
    assert (link["mimeType"], link["uri"]) == ("video/mp4", f"file://{path}")
    assert b'"negative_prompt":"rain"' in Path(path).read_bytes()[-400:]
    assert server.deleted == ["video_gen_1"]


def test_request_says_everything_and_has_no_file_without_an_image(studio: Client, server: ScriptedVideoServer) -> None:
    facts(studio, TOOL, {**SMALL, "seed": 5, "negative_prompt": "rain"})
    assert server.submitted == [
        {
            "model": FROM_WORDS_MODEL, "prompt": "a ball", "size": "64x64", "num_frames": "9", "fps": "24",
            "num_inference_steps": "2", "guidance_scale": "5.0", "seed": "5", "flow_shift": "5.0",
            "negative_prompt": "rain",
        }
    ]  # fmt: skip


def test_image_is_the_first_frame_in_the_size_of_the_video(
    studio: Client, server: ScriptedVideoServer, image: str
) -> None:
    told = facts(studio, TOOL, {**SMALL, "image_path": image})
    assert (told["method"], told["parameters_used"]["reference_images"]) == ("image + text", 1)
    with Image.open(io.BytesIO(server.submitted[0]["input_reference"])) as sent:
        assert (sent.format, sent.size, sent.getpixel((0, 0))) == ("PNG", (64, 64), (255, 0, 0))


def test_image_may_be_one_that_a_job_made(
    make_client: Callable[..., Client], server: ScriptedVideoServer, tmp_path: Path
) -> None:
    with ScriptedOmni() as images:
        folder = str(tmp_path / "out")
        client = make_client(OMNI_URL=images.url, OMNI_VIDEO_URL=server.url, OMNI_OUTPUT_DIR=folder)
        job_id = facts(client, "generate_image", {"prompt": "a", "width": 64, "height": 64})["job_id"]
        assert facts(client, TOOL, {**SMALL, "image_path": job_id})["method"] == "image + text"
        error = client.error(TOOL, {**SMALL, "image_path": f"{job_id}#3"})
    assert "has no result 3" in error
    assert len(server.submitted) == 1


def test_call_that_may_not_wait_gets_a_job_that_can_be_cancelled(
    studio: Client, server: ScriptedVideoServer, tmp_path: Path
) -> None:
    server.n_polls = 10_000
    told = facts(studio, TOOL, {**SMALL, "wait_s": 0})
    assert told["status"] == "running"
    assert studio.result("cancel_batch", {"batch_id": told["job_id"]}).status == "cancelled"
    assert facts(studio, "job_status", {"job_id": told["job_id"]})["status"] == "cancelled"
    assert server.deleted == [f"video_gen_{number + 1}" for number in range(len(server.submitted))]
    assert written(tmp_path) == []


@pytest.mark.parametrize(
    ("made", "note"),
    [
        (video_file(size=(80, 64), frames=9, fps=24), "The server made 80x64 pixels instead of 64x64."),
        (video_file(size=(64, 64), frames=12, fps=24), "The server made 12 frames instead of 9."),
        (video_file(size=(64, 64), frames=9, fps=16), "has 16 frames a second instead of 24."),
    ],
)
def test_what_differs_from_the_request_is_told(
    studio: Client, server: ScriptedVideoServer, made: bytes, note: str
) -> None:
    server.made = made
    assert note in facts(studio, TOOL, SMALL)["notes"][0]


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (video_file(size=(64, 64), frames=3, fps=24), "has 3 frames in 0.12 s where 9 frames in 0.38 s were requested"),
        (video_file(size=(64, 64), frames=40, fps=24), "was not kept"),
        (video_file(size=(64, 64), frames=9, fps=5), "was not kept"),
        (video_file(size=(64, 64), frames=9, fps=24)[:-400], "is incomplete, and was not kept"),
        (b"<html>", "is incomplete, and was not kept"),
    ],
)
def test_video_that_is_not_the_one_requested_is_not_kept(
    studio: Client, server: ScriptedVideoServer, tmp_path: Path, made: bytes, text: str
) -> None:
    server.made = made
    assert text in studio.error(TOOL, SMALL)
    assert (written(tmp_path), server.deleted) == ([], ["video_gen_1"])


def test_failed_job_is_an_error(studio: Client, server: ScriptedVideoServer, tmp_path: Path) -> None:
    server.step("job", failed("CUDA out of memory. Tried to allocate 2 GiB"))
    assert "out-of-memory" in studio.error(TOOL, SMALL)
    assert written(tmp_path) == []


# Which server


@pytest.fixture
def three(make_client: Callable[..., Client], tmp_path: Path) -> Iterator[Three]:
    """A client in front of a server that talks, one for words and one for images; the first is the default."""
    with ScriptedVideoServer() as talking, ScriptedVideoServer(T2V) as words, ScriptedVideoServer(I2V) as images:
        client = make_client(
            OMNI_VIDEO_URL=talking.url,
            OMNI_VIDEO_MODELS=f"words={words.url} images={images.url} down=http://127.0.0.1:9",
            OMNI_OUTPUT_DIR=str(tmp_path / "out"),
        )
        yield client, {"talking": talking, "words": words, "images": images}


def test_call_goes_to_the_first_server_that_can(three: Three, image: str) -> None:
    client, made = three
    assert facts(client, TOOL, SMALL)["server_url"] == made["words"].url
    assert facts(client, TOOL, {**SMALL, "image_path": image})["server_url"] == made["images"].url


def test_servers_are_not_all_asked_again_for_the_next_call(
    three: Three,
) -> None:
    client, made = three
    for _ in range(3):
        facts(client, TOOL, SMALL)
    assert len(made["talking"].seen) == 1


def test_chosen_server_with_another_model_is_chosen_no_more(
    three: Three,
) -> None:
    client, made = three
    facts(client, TOOL, SMALL)
    made["words"].model, made["images"].model = I2V, T2V
    assert facts(client, TOOL, SMALL)["server_url"] == made["images"].url


def test_server_that_hangs_delays_a_call_but_does_not_stop_it(three: Three, monkeypatch: pytest.MonkeyPatch) -> None:
    client, made = three
    monkeypatch.setattr(servers, "LOOK_TIMEOUT_S", 0.5)
    made["talking"].step("models", lambda request, fields: time.sleep(3))
    assert facts(client, TOOL, SMALL)["server_url"] == made["words"].url


@pytest.mark.parametrize(
    ("arguments", "texts"),
    [
        (
            {"model_type": "words", "image_path": "{image}"},
            ("words alone and would ignore the image", "Models that can: Wan-AI/Wan2.2-I2V-A14B"),
        ),
        ({"model_type": "images"}, ("give image_path", "Models that can: Wan-AI/Wan2.2-T2V-A14B")),
        ({"model_type": "single_original"}, ("makes no videos from words or an image", "Models that can")),
        ({"model_type": "down"}, ("Cannot connect to vLLM server",)),
        ({"model_type": "nope"}, ("model_type 'nope' is unknown", "words, images, down")),
    ],
)  # fmt: skip
def test_named_server_that_cannot_is_refused_with_advice(
    three: Three, image: str, arguments: Json, texts: tuple[str, ...]
) -> None:
    client, made = three
    error = client.error(
        TOOL, {**SMALL, **{name: image if value == "{image}" else value for name, value in arguments.items()}}
    )
    for text in texts:
        assert text in error
    assert [each.submitted for each in made.values()] == [[], [], []]


def test_without_any_server_that_can_each_is_named_with_what_it_does(three: Three, image: str) -> None:
    client, made = three
    made["images"].model = "Qwen/Qwen-Image"
    error = client.error(TOOL, {**SMALL, "image_path": image})
    assert error.startswith("No configured server makes videos from an image and words: ")
    for part in (
        f"{made['talking'].url} serves Wan-AI/Wan2.2-S2V-14B (videos from an image and a voice)",
        f"{made['words'].url} serves {T2V} (videos from words)",
        f"{made['images'].url} serves Qwen/Qwen-Image (no videos)",
        "http://127.0.0.1:9 does not report its model",
        "Models that can: Wan-AI/Wan2.2-I2V-A14B-Diffusers, ",
    ):
        assert part in error


def test_only_server_that_is_down_or_makes_images_is_the_error(make_client: Callable[..., Client]) -> None:
    assert "Cannot connect to vLLM server" in make_client(OMNI_URL="http://127.0.0.1:9").error(TOOL, SMALL)
    with ScriptedOmni() as images:
        error = make_client(OMNI_URL=images.url).error(TOOL, SMALL)
    assert "makes no videos from words or an image. Models that can: Wan-AI/Wan2.2-T2V-A14B" in error


def test_unknown_model_is_the_last_choice_and_comes_with_a_warning(three: Three, image: str) -> None:
    client, made = three
    made["talking"].model = "somebody/movies"
    assert facts(client, TOOL, SMALL)["server_url"] == made["words"].url
    made["images"].model = "Qwen/Qwen-Image"
    told = facts(client, TOOL, {**SMALL, "image_path": image})
    assert told["server_url"] == made["talking"].url
    assert "The model 'somebody/movies' is unknown" in told["notes"][0]
    made["talking"].step("job", failed("no such pipeline"))
    error = client.error(TOOL, {**SMALL, "image_path": image})
    assert "no such pipeline" in error
    assert "Models that can: from words Wan-AI/" in error


def test_server_that_does_not_report_its_model_is_tried(studio: Client, server: ScriptedVideoServer) -> None:
    server.step("models", answers(b"", 404))
    told = facts(studio, TOOL, SMALL)
    assert "does not report its model" in told["notes"][0]
    assert "model" not in server.submitted[0]


def test_list_of_models_says_what_each_server_makes_videos_from(
    three: Three,
) -> None:
    client, made = three
    listed = {entry.server_url: entry for entry in client.result("list_available_models").models.video}
    can = {name: (listed[each.url].talks, listed[each.url].text, listed[each.url].image) for name, each in made.items()}
    assert can == {"talking": (True, False, False), "words": (False, True, False), "images": (False, False, True)}
    assert listed["http://127.0.0.1:9"].text is None


# Arguments


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"prompt": ""}, "arguments.prompt"),
        ({"prompt": None}, "arguments.prompt"),
        ({"image_path": "{tmp}/nowhere.png"}, "arguments.image_path: There is no file"),
        ({"image_path": "{tmp}/clip.mp4"}, "arguments.image_path: This is not an image"),
        ({"image_path": "http://127.0.0.1/a.png"}, "VLLM_ALLOWED_MEDIA_HOSTS"),
        ({"image_path": ""}, "arguments.image_path"),
        ({"width": 80}, "Width 80 is not a multiple of 32. Nearest valid width is 64"),
        ({"width": None}, "Give both width and height"),
        ({"width": 8_192}, "arguments.width"),
        ({"width": 4_096, "height": 4_096}, "at most 921600"),
        ({"aspect_ratio": "1:100"}, "aspect ratio '1:100' is invalid"),
        ({"num_frames": 10}, "num_frames 10 is not a multiple of 4 and 1 more"),
        ({"num_frames": 482}, "arguments.num_frames"),
        ({"num_frames": 1}, "arguments.num_frames"),
        ({"duration_s": 1}, "Give num_frames or duration_s, not both"),
        ({"num_frames": None, "duration_s": 0}, "arguments.duration_s"),
        ({"num_frames": None, "duration_s": 61}, "arguments.duration_s"),
        ({"num_frames": None, "duration_s": 60}, "at most 481"),
        ({"fps": 0}, "arguments.fps"),
        ({"num_inference_steps": 201}, "arguments.num_inference_steps"),
        ({"guidance_scale": 21}, "arguments.guidance_scale"),
        ({"seed": -1}, "arguments.seed"),
        ({"filename": "../x.mp4"}, "filename"),
        ({"filename": "x.png"}, "filename"),
        ({"model_type": 3}, "arguments.model_type"),
        ({"wait_s": -1}, "arguments.wait_s"),
        ({"audio_path": "{tmp}/a.wav"}, "audio_path"),
        ({"last_image_path": "{tmp}/a.png"}, "last_image_path"),
    ],
)
def test_bad_arguments_are_refused_and_nothing_is_made(
    studio: Client, server: ScriptedVideoServer, tmp_path: Path, arguments: Json, text: str
) -> None:
    (tmp_path / "clip.mp4").write_bytes(video_file())
    given = {name: value.format(tmp=tmp_path) if isinstance(value, str) else value for name, value in arguments.items()}
    error = studio.error(TOOL, {**SMALL, **given})
    assert text in error
    assert (server.submitted, written(tmp_path)) == ([], [])


def test_file_that_is_taken_is_not_overwritten(studio: Client) -> None:
    names = [Path(facts(studio, TOOL, {**SMALL, "filename": "a"})["output_path"]).name for _ in range(2)]
    assert names == ["a.mp4", "a_2.mp4"]
