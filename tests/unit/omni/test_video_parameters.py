"""A caller's wishes and a model's profile become one request."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from omni.errors import InvalidParameters
from omni.video.models import LONGCAT_AVATAR, TINY_WAN_S2V, WAN_S2V, VideoProfile, is_known, talking_profile
from omni.video.parameters import DEFAULT_PROMPT, VideoOptions, VideoParameters, resolve_video


def resolved(
    wishes: VideoOptions, image: tuple[int, int] = (1_000, 1_000), audio_s: float = 8, profile: VideoProfile = WAN_S2V
) -> VideoParameters:
    return resolve_video("wan", profile, wishes, image, audio_s)[0]


def test_what_nobody_says_suits_the_model() -> None:
    found = resolved(VideoOptions())
    assert (found.prompt, found.steps, found.guidance_scale, found.fps) == (DEFAULT_PROMPT, 40, 4.5, 16)
    assert 0 <= found.seed < 2**32
    assert resolved(VideoOptions()).seed != found.seed


def test_the_caller_wins() -> None:
    found = resolved(VideoOptions("hello", 640, 480, None, 7, 1.5, 48, 3))
    assert (found.prompt, found.width, found.height, found.steps) == ("hello", 640, 480, 7)
    assert (found.guidance_scale, found.num_frames, found.seed) == (1.5, 48, 3)


@pytest.mark.parametrize(
    ("image", "size"),
    [
        ((1_024, 704), (1_024, 704)),
        ((4_000, 3_000), (976, 720)),
        ((3_000, 4_000), (720, 976)),
        ((100, 100), (624, 624)),
        ((30, 3_000), (416, 1_680)),
        ((1, 1), (624, 624)),
    ],
)
def test_size_has_the_shape_of_the_image(image: tuple[int, int], size: tuple[int, int]) -> None:
    found = resolved(VideoOptions(), image)
    assert (found.width, found.height) == size or found.width * found.height <= WAN_S2V.area
    assert found.width % 16 == found.height % 16 == 0
    assert WAN_S2V.min_area * 0.9 < found.width * found.height <= WAN_S2V.area


@pytest.mark.parametrize("ratio", ["16:9", " 16 : 9 ", "16x9", "16/9"])
def test_ratio_wins_over_the_image(ratio: str) -> None:
    found = resolved(VideoOptions(aspect_ratio=ratio))
    assert found.width / found.height == pytest.approx(16 / 9, rel=0.03)


def test_ratio_wins_over_the_size_with_a_note() -> None:
    _, notes = resolve_video("wan", WAN_S2V, VideoOptions(width=64, height=64, aspect_ratio="1:1"), (9, 9), 1)
    assert "width and height were ignored" in notes[0]


@pytest.mark.parametrize(
    ("wishes", "text"),
    [
        (VideoOptions(width=100, height=64), "Width 100 is not a multiple of 16. Nearest valid width is 96"),
        (VideoOptions(width=64, height=100), "Height 100"),
        (VideoOptions(width=64), "both width and height"),
        (VideoOptions(width=4_096, height=4_096), "at most 921600"),
        (VideoOptions(aspect_ratio="wide"), "two numbers such as 16:9"),
        (VideoOptions(aspect_ratio="0:1"), "two numbers"),
        (VideoOptions(aspect_ratio="100:1"), "4 times"),
        (VideoOptions(num_frames=30), "num_frames 30 is not a multiple of 4.* Nearest is 32"),
    ],
)
def test_what_the_model_cannot_do_is_refused(wishes: VideoOptions, text: str) -> None:
    with pytest.raises(InvalidParameters, match=text):
        resolved(wishes)


@pytest.mark.parametrize("audio_s", [0.1, 0.5, 1, 2, 3, 4.8, 5, 5.1, 8, 30, 120])
def test_clips_end_soon_after_the_sound(audio_s: float) -> None:
    """Clips of 80 frames would go on for up to 5 s."""
    found = resolved(VideoOptions(), audio_s=audio_s)
    assert found.num_frames % 4 == 0
    assert 16 <= found.num_frames <= 80
    clips = -(-audio_s // found.clip_s)
    video_s = (clips * found.num_frames - 3) / 16
    assert video_s > audio_s - 0.25
    assert video_s < audio_s + max(1, 4 * clips / 16) + 0.1


def test_longcat_is_asked_for_clips_of_its_own(tmp_path: Path) -> None:
    parameters, notes = resolve_video("longcat", LONGCAT_AVATAR, VideoOptions(), (640, 480), 8)
    form = parameters.request(LONGCAT_AVATAR, b"RIFF")
    assert json.loads(form["extra_params"]) == {"stage": "ai2v", "resolution": "480p", "num_segments": "auto"}
    assert (form["num_frames"], form["fps"], form["num_inference_steps"]) == ("93", "25", "50")
    assert "table" in notes[0]
    large = resolved(VideoOptions(width=1_280, height=720), profile=LONGCAT_AVATAR)
    assert json.loads(large.request(LONGCAT_AVATAR, b"")["extra_params"])["resolution"] == "720p"
    with pytest.raises(InvalidParameters, match="multiple of 4 and 1 more"):
        resolved(VideoOptions(num_frames=80), profile=LONGCAT_AVATAR)


@pytest.mark.parametrize(
    ("model", "profile"),
    [
        ("Wan-AI/Wan2.2-S2V-14B", WAN_S2V),
        ("me/wan2.2-s2v-int8", WAN_S2V),
        ("/models/Wan2.2-S2V-14B/", WAN_S2V),
        ("meituan-longcat/LongCat-Video-Avatar", LONGCAT_AVATAR),
        ("Wan-AI/Wan2.2-T2V-A14B-Diffusers", None),
        ("Wan-AI/Wan2.2-I2V-A14B-Diffusers", None),
        ("black-forest-labs/FLUX.2-klein-4B", None),
        ("Qwen/Qwen-Image", None),
        ("meituan-longcat/LongCat-Image", None),
        ("somebody/talker", WAN_S2V),
    ],
)
def test_names_tell_what_talks(model: str, profile: VideoProfile | None) -> None:
    assert talking_profile(model, model) is profile
    assert is_known(model) == (profile is not None and model != "somebody/talker")


@pytest.mark.parametrize(
    ("pipeline", "profile"),
    [("WanS2VPipeline", WAN_S2V), ("LongCatVideoAvatarPipeline", LONGCAT_AVATAR), ("Flux2KleinPipeline", None)],
)
def test_files_of_a_model_tell_more_than_its_name(pipeline: str, profile: VideoProfile | None, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    assert talking_profile("anything", str(tmp_path)) is profile
    assert is_known("anything", str(tmp_path)) == (profile is not None)


def test_tiny_model_of_noise_is_asked_for_little(tmp_path: Path) -> None:
    folder = tmp_path / "tiny-wan-s2v"
    folder.mkdir()
    (folder / "model_index.json").write_text('{"_class_name": "WanS2VPipeline"}')
    assert talking_profile(str(folder), str(folder)) is TINY_WAN_S2V
    assert is_known(str(folder), str(folder))
    for image, size in (((480, 480), (128, 128)), ((1_600, 400), (256, 64)), ((40, 40), (128, 128))):
        found = resolved(VideoOptions(), image, profile=TINY_WAN_S2V)
        assert ((found.width, found.height), found.steps) == (size, 4)
    assert resolved(VideoOptions(width=640, height=480), profile=TINY_WAN_S2V).width == 640
