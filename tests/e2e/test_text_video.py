"""Video from words or an image: the real server over its pipes, in front of real vLLM-Omni servers on the CPU.

The three tiny Wan2.2 models have random weights: their videos are noise, and show that everything works.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
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

Json = dict[str, Any]
TOOL = "generate_video"
SMALL: Json = {"prompt": "a ball rolls", "width": 64, "height": 64, "num_frames": 9, "num_inference_steps": 2}
LONG: Json = {"prompt": "a ball rolls", "width": 256, "height": 256, "num_frames": 33, "num_inference_steps": 200}
"""Takes minutes on a CPU where nothing stops it."""
SOON_S = 60.0
FREED_S = 60.0
"""From a cancelled job to the next video, on a busy machine."""
KINDS = ("t2v", "ti2v", "i2v")


@pytest.fixture(scope="module")
def omni(omni_environment: None) -> Iterator[Mapping[str, OmniServer]]:
    """One server of each kind for this module."""
    with contextlib.ExitStack() as stack:
        yield {kind: stack.enter_context(OmniServer(f"wan-{kind}")) for kind in KINDS}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def studio(omni: Mapping[str, OmniServer], out: Path) -> Iterator[ServerProcess]:
    """A server in front of all three; the one for words alone is the default."""
    named = ",".join(f"{kind}={omni[kind].url}" for kind in ("ti2v", "i2v"))
    settings = {"OMNI_VIDEO_URL": omni["t2v"].url, "OMNI_VIDEO_MODELS": named, "OMNI_OUTPUT_DIR": str(out)}
    with ServerProcess(settings) as process:
        process.initialize()
        yield process


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Paths of two images."""
    folder = tmp_path_factory.mktemp("images")
    for name, colours in (("a", ("blue", "circle", "red")), ("b", ("white", "square", "green"))):
        (folder / f"{name}.png").write_bytes(png(drawn(*colours)))
    return [str(folder / "a.png"), str(folder / "b.png")]


def frames(path: str) -> list[bytes]:
    """All frames of a video as pixels."""
    with av.open(path, "r") as container:
        return [frame.to_ndarray(format="rgb24").tobytes() for frame in container.decode(video=0)]


def jobs_on(server: OmniServer) -> list[Json]:
    """The jobs that a vLLM-Omni server keeps."""
    found: list[Json] = httpx.get(f"{server.url}/v1/videos", timeout=SOON_S).json()["data"]
    return found


def assert_probed(told: Json, size: tuple[int, int], n_frames: int, fps: int) -> None:
    """The file is what the result says, to its last frame; by ffprobe too where the machine has it."""
    with av.open(told["output_path"], "r") as container:
        stream = container.streams.video[0]
        decoded = list(container.decode(stream))
    assert {(frame.width, frame.height) for frame in decoded} == {size}
    assert len(decoded) == n_frames == told["frames"]
    assert stream.average_rate is not None
    assert float(stream.average_rate) == pytest.approx(fps)
    assert told["duration_seconds"] == pytest.approx(n_frames / fps, abs=1 / fps)
    assert told["resolution"] == f"{size[0]}x{size[1]}"
    if shutil.which("ffprobe"):
        command = ["ffprobe", "-v", "error", "-count_frames", "-of", "json", "-show_streams", told["output_path"]]
        (probed,) = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["streams"]
        assert (probed["width"], probed["height"], int(probed["nb_read_frames"])) == (*size, n_frames)


def test_words_become_a_video(studio: ServerProcess, omni: Mapping[str, OmniServer], out: Path) -> None:
    text, image, link = content(studio, TOOL, {**SMALL, "seed": 5, "filename": "ball", "negative_prompt": "rain"})
    told = json.loads(text["text"])
    assert told["output_path"] == str(out / "ball.mp4")
    assert (told["status"], told["method"], told["seed"], told["has_audio"]) == ("success", "text", 5, False)
    assert (told["served_model"], told["server_url"]) == ("tiny-wan-t2v", omni["t2v"].url)
    assert told["parameters_used"] == {
        "model": "tiny-wan-t2v", "prompt": "a ball rolls", "width": 64, "height": 64, "steps": 2,
        "guidance_scale": 4.0, "seed": 5, "num_frames": 9, "fps": 16, "negative_prompt": "rain",
        "model_fields": {"flow_shift": 12.0, "boundary_ratio": 0.875, "guidance_scale_2": 3.0},
    }  # fmt: skip
    assert_probed(told, (64, 64), 9, 16)
    with Image.open(io.BytesIO(base64.b64decode(image["data"]))) as poster:
        assert poster.size == (64, 64)
    read = studio.request("resources/read", {"uri": link["uri"]})["result"]["contents"][0]
    assert base64.b64decode(read["blob"]) == (out / "ball.mp4").read_bytes()
    assert b'"prompt":"a ball rolls"' in (out / "ball.mp4").read_bytes()[-600:]
    assert jobs_on(omni["t2v"]) == []


def test_model_for_both_makes_a_video_from_words(studio: ServerProcess) -> None:
    told = facts(studio, TOOL, {**SMALL, "model_type": "ti2v", "fps": 8})
    assert (told["served_model"], told["method"]) == ("tiny-wan-ti2v", "text")
    assert_probed(told, (64, 64), 9, 8)


@pytest.mark.parametrize(("model_type", "served"), [(None, "tiny-wan-ti2v"), ("i2v", "tiny-wan-i2v")])
def test_image_becomes_a_video(studio: ServerProcess, images: list[str], model_type: str | None, served: str) -> None:
    """Without a name it goes to the first server that takes an image."""
    arguments = {**SMALL, "image_path": images[0], "seed": 3, **({"model_type": model_type} if model_type else {})}
    told = facts(studio, TOOL, arguments)
    assert (told["served_model"], told["method"]) == (served, "image + text")
    assert told["parameters_used"]["reference_images"] == 1
    assert_probed(told, (64, 64), 9, told["parameters_used"]["fps"])
    other = facts(studio, TOOL, {**arguments, "image_path": images[1]})
    assert frames(other["output_path"]) != frames(told["output_path"])


def test_same_seed_makes_the_same_frames(studio: ServerProcess) -> None:
    first = facts(studio, TOOL, SMALL)
    again = facts(studio, TOOL, {**SMALL, "seed": first["seed"]})
    other = facts(studio, TOOL, {**SMALL, "seed": first["seed"] ^ 1})
    assert frames(first["output_path"]) == frames(again["output_path"])
    assert frames(first["output_path"]) != frames(other["output_path"])


def test_tiny_model_makes_a_video_in_seconds_where_nobody_says_how(studio: ServerProcess) -> None:
    told = facts(studio, TOOL, {"prompt": "waves", "duration_s": 0.5})
    assert (told["resolution"], told["frames"], told["parameters_used"]["steps"]) == ("128x128", 9, 4)


@pytest.mark.parametrize("model_type", KINDS)
def test_cancelling_deletes_the_job_on_the_server_and_frees_it(
    studio: ServerProcess, omni: Mapping[str, OmniServer], images: list[str], out: Path, model_type: str
) -> None:
    which = {"model_type": "single_original" if model_type == "t2v" else model_type}
    which |= {"image_path": images[0]} if model_type == "i2v" else {}
    before = sorted(os.listdir(out))
    job_id = facts(studio, TOOL, {**LONG, **which, "wait_s": 0})["job_id"]
    until_s = time.monotonic() + SOON_S
    while not facts(studio, "job_status", {"job_id": job_id}).get("phase", "").startswith("generating"):
        assert time.monotonic() < until_s
        time.sleep(0.05)
    omni[model_type].wait_until_working()
    assert studio.result("cancel_batch", {"batch_id": job_id})["status"] == "cancelled"
    assert jobs_on(omni[model_type]) == []
    assert sorted(os.listdir(out)) == before
    begun_s = time.monotonic()
    facts(studio, TOOL, {**SMALL, **which})
    assert time.monotonic() - begun_s < FREED_S


@pytest.mark.parametrize(
    ("changes", "texts"),
    [
        (
            {"model_type": "single_original", "image_path": "{image}"},
            ("words alone and would ignore the image", "Models that can: Wan-AI/Wan2.2-I2V-A14B"),
        ),
        ({"model_type": "i2v"}, ("only from an image and words: give image_path",)),
        ({"model_type": "ti2v", "width": 80}, ("Width 80 is not a multiple of 32", "64")),
        ({"num_frames": 10}, ("num_frames 10 is not a multiple of 4 and 1 more", "Nearest is 9")),
        ({"duration_s": 1}, ("num_frames or duration_s",)),
        ({"image_path": "/nowhere/image.png"}, ("arguments.image_path: There is no file",)),
    ],
)
def test_what_a_model_cannot_do_is_refused_with_advice(
    studio: ServerProcess, images: list[str], changes: Json, texts: tuple[str, ...]
) -> None:
    given = {name: images[0] if value == "{image}" else value for name, value in changes.items()}
    told = error(studio, TOOL, {**SMALL, **given})
    for text in texts:
        assert text in told


def test_servers_are_listed_with_what_they_make_videos_from(
    studio: ServerProcess, omni: Mapping[str, OmniServer]
) -> None:
    listed = {entry["server_url"]: entry for entry in studio.result("list_available_models")["models"]["video"]}
    can = {kind: tuple(listed[omni[kind].url][name] for name in ("talks", "text", "image")) for kind in KINDS}
    assert can == {"t2v": (False, True, False), "ti2v": (False, True, True), "i2v": (False, False, True)}


def test_server_without_such_a_model_is_refused(omni_image_server: OmniServer, tmp_path: Path) -> None:
    with ServerProcess({"OMNI_URL": omni_image_server.url, "OMNI_OUTPUT_DIR": str(tmp_path / "out")}) as server:
        told = error(server, TOOL, SMALL)
        assert "makes no videos from words or an image" in told
        assert "Wan-AI/Wan2.2-T2V-A14B-Diffusers" in told
        assert not (tmp_path / "out").exists()
