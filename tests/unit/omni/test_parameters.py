from __future__ import annotations

from typing import Any

import msgspec
import pytest

from omni.errors import InvalidParameters
from omni.images.editing import Inputs
from omni.images.parameters import MAX_SEED, ImageOptions, ImageParameters, resolve
from omni.images.profiles import FALLBACK, PROFILES, Profile
from tests.scripted_omni import png

KLEIN = PROFILES["black-forest-labs/FLUX.2-klein-4B"]
QWEN = PROFILES["Qwen/Qwen-Image"]
TURBO = PROFILES["Tongyi-MAI/Z-Image-Turbo"]


def resolved(profile: Profile, **wishes: object) -> ImageParameters:
    return resolve("m", profile, "a cat", ImageOptions(**wishes))[0]  # type: ignore[arg-type]


def test_call_wins_over_profile_and_profile_over_nothing() -> None:
    ours = resolved(KLEIN, seed=42)
    assert (ours.steps, ours.guidance_scale, ours.width, ours.height, ours.seed) == (4, 1.0, 1024, 1024, 42)
    theirs = resolved(KLEIN, num_inference_steps=7, guidance_scale=0.0, width=512, height=256)
    assert (theirs.steps, theirs.guidance_scale, theirs.width, theirs.height) == (7, 0.0, 512, 256)


def test_unknown_model_gets_the_fallback() -> None:
    ours = resolved(FALLBACK)
    assert (ours.steps, ours.guidance_scale, ours.width, ours.height) == (28, 5.0, 1024, 1024)


def test_seed_is_drawn_where_none_is_given() -> None:
    seeds = {resolved(KLEIN).seed for _ in range(20)}
    assert len(seeds) == 20
    assert all(0 <= seed <= MAX_SEED for seed in seeds)


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        (KLEIN, {"num_inference_steps": 4, "guidance_scale": 1.0}),
        (QWEN, {"num_inference_steps": 50, "true_cfg_scale": 4.0, "negative_prompt": " "}),
        (TURBO, {"num_inference_steps": 9, "guidance_scale": 0.0}),
        (FALLBACK, {"num_inference_steps": 28, "guidance_scale": 5.0}),
    ],
    ids=["klein", "qwen", "turbo", "fallback"],
)
def test_request_has_steps_guidance_size_and_seed_under_the_names_of_the_family(
    profile: Profile, expected: dict[str, object]
) -> None:
    request = resolved(profile, seed=3).request(profile)
    size = "x".join(map(str, profile.default_resolution))
    common = {
        "prompt": "a cat",
        "n": 1,
        "size": size,
        "seed": 3,
        "response_format": "b64_json",
        "output_format": "png",
    }
    assert request == {**common, **expected}


def test_negative_prompt_is_sent_or_ignored_with_a_note() -> None:
    parameters, notes = resolve("m", QWEN, "a cat", ImageOptions(negative_prompt="blurry"))
    assert parameters.request(QWEN)["negative_prompt"] == "blurry"
    assert notes == []
    parameters, notes = resolve("m", KLEIN, "a cat", ImageOptions(negative_prompt="blurry"))
    assert "negative_prompt" not in parameters.request(KLEIN)
    assert notes == ["negative_prompt was ignored: this model does not support negative prompts."]


def test_aspect_ratio_wins_over_width_and_height() -> None:
    parameters, notes = resolve("m", KLEIN, "a cat", ImageOptions(aspect_ratio="16:9", width=333))
    assert (parameters.width, parameters.height) == (1024, 576)
    assert notes == ["width and height were ignored: aspect_ratio 16:9 is 1024x576."]
    assert resolve("m", KLEIN, "a cat", ImageOptions(aspect_ratio=" 9 : 16 "))[0].height == 1024


@pytest.mark.parametrize(
    ("wishes", "text"),
    [
        ({"width": 1000}, "Width 1000 is not a multiple of 16. Nearest valid width is 992."),
        ({"height": 1015}, "Height 1015 is not a multiple of 16. Nearest valid height is 1008."),
        ({"width": 17}, "Width 17 is not a multiple of 16. Nearest valid width is 16."),
        ({"width": 2064, "height": 2048}, "at most 4194304 (4 megapixels)"),
        ({"width": 16384, "height": 16384}, "Reduce width or height"),
        ({"aspect_ratio": "21:9"}, "not one of this model's: 1:1 (1024x1024), 16:9 (1024x576)"),
        ({"aspect_ratio": "wide"}, "not one of this model's"),
    ],
)
def test_sizes_that_the_model_cannot_do_are_refused(wishes: dict[str, object], text: str) -> None:
    with pytest.raises(InvalidParameters) as caught:
        resolved(KLEIN, **wishes)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("16:9", (1360, 768)),
        ("21:9", (1536, 656)),
        ("1:1", (1024, 1024)),
        ("4/3", (1168, 880)),
        ("2.39:1", (1568, 656)),
    ],
)
def test_model_that_nobody_described_makes_any_aspect_ratio(text: str, size: tuple[int, int]) -> None:
    found = resolved(FALLBACK, aspect_ratio=text)
    assert (found.width, found.height) == size
    assert text not in FALLBACK.aspect_ratios or FALLBACK.aspect_ratios[text] == size


def test_computed_ratio_has_the_pixels_of_the_profile() -> None:
    small = Profile(default_resolution=(512, 512), max_resolution_mp=0.25, resolution_multiple=8)
    found = resolved(small, aspect_ratio="2:1")
    assert (found.width, found.height) == (720, 360)


@pytest.mark.parametrize("text", ["wide", "17:1", "0:0"])
def test_what_is_no_aspect_ratio_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameters, match=r"is invalid: use two numbers such as 16:9"):
        resolved(FALLBACK, aspect_ratio=text)


def test_same_ratio_in_other_words_is_the_model_s_own() -> None:
    for text in ("16x9", "16/9", "32:18", "1920x1080"):
        assert resolved(KLEIN, aspect_ratio=text).width == 1024


def edited(shape: tuple[int, int], **wishes: Any) -> tuple[tuple[int, int], list[str]]:
    parameters, notes = resolve("m", KLEIN, "a cat", ImageOptions(**wishes), Inputs([png(shape)]))
    return (parameters.width, parameters.height), notes


@pytest.mark.parametrize(
    ("shape", "wishes", "size"),
    [
        ((640, 256), {}, (640, 256)),
        ((250, 645), {}, (256, 656)),
        ((640, 256), {"width": 320}, (320, 128)),
        ((640, 256), {"height": 64}, (160, 64)),
        ((640, 256), {"width": 512, "height": 512}, (512, 512)),
        ((640, 256), {"aspect_ratio": "1:1"}, (1024, 1024)),
    ],
)
def test_edit_keeps_the_image_s_shape(shape: tuple[int, int], wishes: dict[str, Any], size: tuple[int, int]) -> None:
    assert edited(shape, **wishes) == (size, [])


def test_image_that_is_too_large_for_the_model_is_edited_smaller_with_a_note() -> None:
    assert edited((8000, 6000)) == (
        (2352, 1760),
        ["The image of 8000x6000 is edited as 2352x1760: this model's images have at most 4194304 pixels."],
    )


def test_two_thousand_and_forty_eight_squared_are_four_megapixels() -> None:
    assert resolved(KLEIN, width=2048, height=2048).width == 2048


@pytest.mark.parametrize("name", PROFILES)
def test_every_size_of_a_profile_fits_its_own_rules(name: str) -> None:
    profile = PROFILES[name]
    assert msgspec.convert(msgspec.to_builtins(profile), Profile) == profile
    for size in (profile.default_resolution, *profile.supported_aspect_ratios.values()):
        assert size[0] % profile.resolution_multiple == size[1] % profile.resolution_multiple == 0
        assert size[0] * size[1] <= profile.max_pixels
    for ratio, (width, height) in profile.supported_aspect_ratios.items():
        across, down = map(int, ratio.split(":"))
        assert width / height == pytest.approx(across / down, rel=0.05)
