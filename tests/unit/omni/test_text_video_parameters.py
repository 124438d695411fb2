"""Video from words: models by name and by their files, and a caller's wishes become one request."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from http_client.model_list import ServedModel
from omni.errors import InvalidParameters
from omni.video import text_models
from omni.video.abilities import Abilities, abilities
from omni.video.text_models import (
    FALLBACK,
    HUNYUAN_15_I2V,
    HUNYUAN_15_T2V,
    LTX_2,
    WAN_21_I2V,
    WAN_21_T2V,
    WAN_I2V,
    WAN_T2V,
    WAN_TI2V,
    TextVideoProfile,
    text_video_profile,
)
from omni.video.text_parameters import MAX_FRAMES, TextVideoOptions, TextVideoParameters, resolve_text_video

WISHES = TextVideoOptions


def resolved(
    wishes: TextVideoOptions, profile: TextVideoProfile = WAN_T2V, image: tuple[int, int] | None = None
) -> TextVideoParameters:
    return resolve_text_video("wan", profile, "a dog", wishes, image)[0]


def test_a_request_says_everything_that_decides_how_the_video_looks() -> None:
    assert resolved(WISHES(seed=7, negative_prompt="rain")).request() == {
        "prompt": "a dog",
        "size": "832x480",
        "num_frames": "81",
        "fps": "16",
        "num_inference_steps": "40",
        "guidance_scale": "4.0",
        "guidance_scale_2": "3.0",
        "flow_shift": "12.0",
        "boundary_ratio": "0.875",
        "negative_prompt": "rain",
        "seed": "7",
    }


def test_the_caller_wins() -> None:
    found = resolved(WISHES("", 640, 368, None, 17, None, 24, 7, 1.5, 3))
    assert (found.width, found.height, found.num_frames, found.fps, found.steps) == (640, 368, 17, 24, 7)
    assert (found.guidance_scale, found.seed, found.negative_prompt) == (1.5, 3, None)
    assert "guidance_scale_2" not in found.request()


def test_the_makers_negative_prompt_is_the_default_and_is_told() -> None:
    assert str(resolved(WISHES()).negative_prompt).startswith("Bright tones, overexposed")
    assert resolved(WISHES(), LTX_2).negative_prompt is None


def test_seeds_are_drawn() -> None:
    assert resolved(WISHES()).seed != resolved(WISHES()).seed


@pytest.mark.parametrize(
    ("wishes", "profile", "image", "size"),
    [
        (WISHES(), WAN_T2V, None, (832, 480)),
        (WISHES(), WAN_TI2V, None, (1280, 704)),
        (WISHES(aspect_ratio="16:9"), WAN_T2V, None, (832, 480)),
        (WISHES(aspect_ratio="9 : 16"), WAN_T2V, None, (480, 832)),
        (WISHES(aspect_ratio="1:1"), WAN_T2V, None, (624, 624)),
        (WISHES(aspect_ratio="3:2"), LTX_2, None, (768, 512)),
        (WISHES(aspect_ratio="1:1"), WAN_TI2V, None, (928, 928)),
        (WISHES(), WAN_I2V, (4_000, 3_000), (720, 544)),
        (WISHES(), WAN_I2V, (100, 100), (624, 624)),
        (WISHES(width=1280, height=720), WAN_I2V, (100, 100), (1280, 720)),
    ],
)
def test_size_follows_the_call_then_the_image_then_the_model(
    wishes: TextVideoOptions, profile: TextVideoProfile, image: tuple[int, int] | None, size: tuple[int, int]
) -> None:
    found = resolved(wishes, profile, image)
    assert (found.width, found.height) == size


@pytest.mark.parametrize("image", [(1, 1), (30, 3_000), (3_000, 30), (640, 481), (5_000, 5_000)])
@pytest.mark.parametrize("profile", [WAN_I2V, WAN_TI2V, LTX_2])
def test_every_image_leads_to_a_size_that_the_model_takes(image: tuple[int, int], profile: TextVideoProfile) -> None:
    found = resolved(WISHES(), profile, image)
    assert found.width % profile.multiple == found.height % profile.multiple == 0
    assert profile.area / 3 < found.width * found.height <= profile.max_area


@pytest.mark.parametrize(
    ("wishes", "frames"),
    [
        (WISHES(), 81),
        (WISHES(num_frames=33), 33),
        (WISHES(duration_s=5), 81),
        (WISHES(duration_s=2, fps=24), 49),
        (WISHES(duration_s=0.01), 5),
    ],
)
def test_frames_follow_the_call_then_its_duration_then_the_model(wishes: TextVideoOptions, frames: int) -> None:
    assert resolved(wishes).num_frames == frames


def test_ltx_counts_frames_by_eights() -> None:
    assert resolved(WISHES(duration_s=2), LTX_2).num_frames == 49
    with pytest.raises(InvalidParameters, match=r"multiple of 8 and 1 more.* Nearest is 81"):
        resolved(WISHES(num_frames=84), LTX_2)


def test_ratio_wins_over_the_size_with_a_note() -> None:
    _, notes = resolve_text_video("wan", WAN_T2V, "a", WISHES(width=64, height=64, aspect_ratio="1:1"), None)
    assert "width and height were ignored" in notes[0]


@pytest.mark.parametrize(
    ("wishes", "text"),
    [
        (WISHES(width=100, height=64), "Width 100 is not a multiple of 16. Nearest valid width is 96"),
        (WISHES(width=64), "both width and height"),
        (WISHES(width=4_096, height=4_096), "at most 921600"),
        (WISHES(aspect_ratio="wide"), "two numbers such as 16:9"),
        (WISHES(aspect_ratio="10:1"), "4 times"),
        (WISHES(num_frames=30), "num_frames 30 is not a multiple of 4.* Nearest is 29"),
        (WISHES(num_frames=33, duration_s=2), "num_frames or duration_s"),
        (WISHES(duration_s=60, fps=60), f"at most {MAX_FRAMES}. Reduce duration_s to 8 or less"),
    ],
)
def test_what_the_model_cannot_do_is_refused(wishes: TextVideoOptions, text: str) -> None:
    with pytest.raises(InvalidParameters, match=text):
        resolved(wishes)


@pytest.mark.parametrize(
    ("model", "profile"),
    [
        ("Wan-AI/Wan2.2-T2V-A14B-Diffusers", WAN_T2V),
        ("Wan-AI/Wan2.2-I2V-A14B-Diffusers", WAN_I2V),
        ("Wan-AI/Wan2.2-TI2V-5B-Diffusers", WAN_TI2V),
        ("/models/Wan2.2-TI2V-5B/", WAN_TI2V),
        ("Wan-AI/Wan2.1-T2V-1.3B-Diffusers", WAN_21_T2V),
        ("Wan-AI/Wan2.1-I2V-14B-480P-Diffusers", WAN_21_I2V),
        ("hunyuanvideo-community/HunyuanVideo-1.5-480p_t2v", HUNYUAN_15_T2V),
        ("hunyuanvideo-community/HunyuanVideo-1.5-480p_i2v", HUNYUAN_15_I2V),
        ("Lightricks/LTX-2", LTX_2),
    ],
)
def test_names_tell_the_model(model: str, profile: TextVideoProfile) -> None:
    assert text_video_profile(model) == (profile, True)


@pytest.mark.parametrize("model", ["somebody/movies", "Lightricks/LTX-2.3", "Wan-AI/Wan2.1-VACE-14B"])
def test_unknown_model_is_tried(model: str) -> None:
    assert text_video_profile(model) == (FALLBACK, False)


@pytest.mark.parametrize(
    "model",
    [
        "Wan-AI/Wan2.2-S2V-14B", "meituan-longcat/LongCat-Video-Avatar", "black-forest-labs/FLUX.2-klein-4B",
        "Qwen/Qwen-Image", "tencent/HunyuanImage-3.0", "stabilityai/stable-audio-open-1.0", "tiny-omnivoice",
        "demo-image",
    ],
)  # fmt: skip
def test_models_for_something_else_are_known(model: str) -> None:
    assert text_video_profile(model) is None


@pytest.mark.parametrize(
    ("index", "profile"),
    [
        ({"_class_name": "WanPipeline", "expand_timesteps": True, "boundary_ratio": None}, WAN_TI2V),
        ({"_class_name": "WanPipeline", "expand_timesteps": False, "boundary_ratio": 0.875}, WAN_T2V),
        ({"_class_name": "WanPipeline"}, WAN_21_T2V),
        ({"_class_name": "WanImageToVideoPipeline", "boundary_ratio": 0.9}, WAN_I2V),
        ({"_class_name": "WanImageToVideoPipeline"}, WAN_21_I2V),
        ({"_class_name": "HunyuanVideo15ImageToVideoPipeline"}, HUNYUAN_15_I2V),
        ({"_class_name": "LTX2Pipeline"}, LTX_2),
        ({"_class_name": "SanaVideoPipeline"}, FALLBACK),
        ({"_class_name": "WanS2VPipeline"}, None),
        ({"_class_name": "Flux2KleinPipeline"}, None),
        ({"_class_name": 7}, None),
    ],
)
def test_files_tell_more_than_the_name(tmp_path: Path, index: dict[str, Any], profile: TextVideoProfile | None) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    found = text_video_profile("served-name", str(tmp_path))
    assert found == (None if profile is None else (profile, profile is not FALLBACK))


def test_tiny_models_are_small() -> None:
    for name in ("tiny-wan-t2v", "tiny-wan-ti2v", "tiny-wan-i2v"):
        found = text_video_profile(f"/somewhere/{name}")
        assert found is not None
        assert found[0].size == (128, 128)
        assert found[0] in vars(text_models)["_OWN"].values()


@pytest.mark.parametrize(
    ("model", "can", "note"),
    [
        ("Wan-AI/Wan2.2-S2V-14B", (True, False, False), "Makes videos from an image and a voice."),
        ("Wan-AI/Wan2.2-T2V-A14B", (False, True, False), "Makes videos from words."),
        ("Wan-AI/Wan2.2-TI2V-5B", (False, True, True), "Makes videos from words or from an image and words."),
        ("Wan-AI/Wan2.2-I2V-A14B", (False, False, True), "Makes videos from an image and words."),
        ("Qwen/Qwen-Image", (False, False, False), "It makes no videos. Models that can: from words Wan-AI/"),
        ("Wan-AI/Wan2.1-VACE-14B", (False, None, None), "This model is unknown. Models that can: from words Wan-AI/"),
        ("somebody/talker", (None, None, None), "This model is unknown. Models that can: from words Wan-AI/"),
    ],
)
def test_abilities_of_a_served_model(model: str, can: tuple[bool | None, ...], note: str) -> None:
    found = abilities(ServedModel(model))
    assert found == Abilities(*can)
    assert found.note.startswith(note)
