"""Edits: masks, strength, adapters, and what models that cannot use them say."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from omni.errors import InvalidParameters
from omni.images.editing import NO_INPUTS, Inputs, check_inputs, masked
from omni.images.generate import ImageMaker, ImagePlan
from omni.images.parameters import ImageOptions
from omni.images.profiles import FALLBACK, PROFILES, ProfileBook
from tests.scripted_omni import ScriptedOmni, answers, png

KLEIN = PROFILES["black-forest-labs/FLUX.2-klein-4B"]
QWEN = PROFILES["Qwen/Qwen-Image"]
TURBO = PROFILES["Tongyi-MAI/Z-Image-Turbo"]
DEMO = PROFILES["demo-image"]
WAIT_S = 10.0
IMAGE = png((96, 64))


def mask(size: tuple[int, int] = (96, 64), box: tuple[int, int, int, int] | None = (0, 0, 48, 64)) -> bytes:
    """A mask that is white in a box, as a PNG file."""
    image = Image.new("RGB", size, "black")
    if box is not None:
        image.paste("white", box)
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


def planned(maker: ImageMaker, inputs: Inputs, **wishes: Any) -> ImagePlan:
    return maker.jobs.ask(maker.plan(["a cat"], ImageOptions(**wishes), inputs=inputs))


EDIT, MASKED = Inputs([IMAGE]), Inputs([IMAGE], mask())
NO_MASK_HERE = "does not use a mask. Leave mask_path out, or serve a model that uses masks, such as black-forest"
NO_STRENGTH_HERE = "does not use strength. Leave it out, or serve a model that uses it, such as black-forest-labs/FLUX"


@pytest.mark.parametrize(
    ("profile", "inputs", "strength", "text"),
    [
        (QWEN, EDIT, None, "The model m cannot edit images. Leave image_paths out, or serve a model that edits images"),
        (QWEN, MASKED, None, "The model m cannot edit images."),
        (QWEN, NO_INPUTS, 0.5, NO_STRENGTH_HERE),
        (TURBO, MASKED, None, NO_MASK_HERE),
        (TURBO, NO_INPUTS, 0.5, "strength needs image_paths"),
        (TURBO, Inputs([IMAGE] * 2), None, "The model m accepts at most one image in image_paths."),
        (KLEIN, EDIT, 0.5, "The model m uses strength only together with mask_path."),
        (KLEIN, NO_INPUTS, 0.5, "strength needs image_paths"),
        (KLEIN, Inputs([], mask()), None, "mask_path needs image_paths"),
        (KLEIN, Inputs([IMAGE] * 5), None, "The model m accepts at most 4 images in image_paths."),
        (KLEIN, Inputs([IMAGE] * 3, mask()), None, "With mask_path, at most 2 images fit in image_paths"),
        (DEMO, EDIT, None, "The model m edits images only with a mask. Add mask_path"),
    ],
)
def test_what_a_model_cannot_do_is_refused(profile: Any, inputs: Inputs, strength: float | None, text: str) -> None:
    with pytest.raises(InvalidParameters) as caught:
        check_inputs("m", profile, inputs, strength)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("profile", "inputs", "strength"),
    [(KLEIN, NO_INPUTS, None), (KLEIN, EDIT, None), (KLEIN, MASKED, 0.8), (TURBO, EDIT, 0.1), (DEMO, MASKED, None)],
)
def test_what_a_model_can_do_needs_no_note(profile: Any, inputs: Inputs, strength: float | None) -> None:
    assert check_inputs("m", profile, inputs, strength) == []


def test_what_is_not_known_of_a_model_is_sent_with_a_note() -> None:
    about_mask, about_strength = check_inputs("m", FALLBACK, MASKED, 0.5)
    assert about_mask.startswith("Whether the model m uses mask_path is not known")
    assert about_strength.startswith("Whether the model m uses strength is not known")


def test_low_strength_with_a_mask_has_a_note_about_noise() -> None:
    (note,) = check_inputs("m", KLEIN, MASKED, 0.25)
    assert "a low strength leaves noise" in note


@pytest.mark.parametrize(
    ("pipeline", "mask", "strength"),
    [
        ("Flux2KleinPipeline", True, "with_mask"),
        ("QwenImagePipeline", False, "never"),
        ("ZImagePipeline", False, "with_image"),
        ("SomethingElse", None, None),
    ],
)
def test_files_of_an_unknown_model_tell_what_it_can(
    tmp_path: Path, pipeline: str, mask: bool | None, strength: str | None
) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    profile, _ = ProfileBook().find("mine", str(tmp_path))
    assert (profile.supports_mask, profile.supports_strength) == (mask, strength)


@pytest.mark.parametrize("mask_size", [(96, 64), (48, 32), (200, 100)])
def test_mask_gets_the_size_of_the_image_and_both_that_of_the_result(mask_size: tuple[int, int]) -> None:
    half = (0, 0, mask_size[0] // 2, mask_size[1])
    made, notes = masked(Inputs([IMAGE, png()], mask(mask_size, half)), (48, 32))
    assert notes == []
    assert [opened(data).size for data in made.images] == [(48, 32), (64, 64)]
    assert made.mask is not None
    cut = opened(made.mask)
    assert (cut.mode, cut.size) == ("L", (48, 32))
    assert [cut.getpixel((column, 16)) for column in (0, 20, 28, 47)] == [255, 255, 0, 0]
    assert sorted(set(cut.tobytes())) == [0, 255]


def test_image_of_another_shape_is_cropped_together_with_its_mask() -> None:
    made, notes = masked(Inputs([IMAGE], mask(box=(0, 0, 32, 64))), (64, 64))
    assert notes == ["The first image and its mask were cropped to the shape of 64x64."]
    assert made.mask is not None
    assert [opened(made.mask).getpixel((column, 0)) for column in (0, 14, 18, 63)] == [255, 255, 0, 0]


def test_grey_counts_as_white_from_the_middle_up() -> None:
    grey = Image.new("L", (96, 64), 127)
    grey.paste(128, (0, 0, 10, 64))
    file = io.BytesIO()
    grey.save(file, "PNG")
    made, _ = masked(Inputs([IMAGE], file.getvalue()), (96, 64))
    assert made.mask is not None
    assert [opened(made.mask).getpixel((column, 0)) for column in (0, 9, 10, 95)] == [255, 255, 0, 0]


def test_mask_that_keeps_everything_is_refused() -> None:
    with pytest.raises(InvalidParameters, match=r"^mask_path: the mask has no white"):
        masked(Inputs([IMAGE], mask(box=None)), (96, 64))


def test_mask_that_changes_everything_has_a_note() -> None:
    assert masked(Inputs([IMAGE], mask(box=(0, 0, 96, 64))), (96, 64))[1] == [
        "The mask is white all over: the whole image is changed."
    ]


def test_masked_edit_is_sent_with_image_mask_strength_and_reference(maker: ImageMaker, omni: ScriptedOmni) -> None:
    plan = planned(maker, Inputs([IMAGE, png()], mask()), strength=0.8, width=48, height=32)
    job = maker.start("image", plan, 1)
    assert job.wait(WAIT_S)
    (form,) = omni.edits()
    assert {name: len(values) for name, values in form.items() if name.endswith(("image", "image[]"))} == {
        "image": 1,
        "mask_image": 1,
        "reference_image": 1,
    }
    assert [opened(form[name][0]).size for name in ("image", "mask_image", "reference_image")] == [
        (48, 32),
        (48, 32),
        (64, 64),
    ]
    assert (form["size"], form["strength"]) == ([b"48x32"], [b"0.8"])
    made = job.items[0].result
    assert made is not None
    assert (made.parameters.mask, made.parameters.strength, made.parameters.reference_images) == (True, 0.8, 2)


def test_edit_with_a_mask_has_at_most_a_megapixel(maker: ImageMaker) -> None:
    inputs = Inputs([png((1600, 1200))], mask((1600, 1200)))
    plan = planned(maker, inputs)
    assert (plan.images[0].width, plan.images[0].height) == (1168, 880)
    assert plan.notes == [
        "The image of 1600x1200 is edited as 1168x880: edits with mask_path have at most 1048576 pixels."
    ]
    with pytest.raises(InvalidParameters, match=r"^1600x1200 has 1920000 pixels; an edit with mask_path has at most"):
        planned(maker, inputs, width=1600, height=1200)


def test_files_of_the_inputs_are_in_the_image(maker: ImageMaker) -> None:
    inputs = Inputs([IMAGE], mask(), ["/a/image.png"], "/a/mask.png")
    job = maker.start("image", planned(maker, inputs), 1)
    assert job.wait(WAIT_S)
    result = job.items[0].result
    assert result is not None
    assert result.file_path is not None
    with Image.open(result.file_path) as image:
        told = json.loads(image.text["parameters"])  # type: ignore[attr-defined]
    assert (told["image_paths"], told["mask_path"], told["mask"]) == (["/a/image.png"], "/a/mask.png", True)


def test_ended_job_keeps_no_inputs(maker: ImageMaker, omni: ScriptedOmni) -> None:
    omni.script(answers(b"{}"), path="/v1/images/edits")
    job = maker.start("image", planned(maker, MASKED), 1)
    assert job.wait(WAIT_S)
    assert job.plan.inputs == NO_INPUTS
