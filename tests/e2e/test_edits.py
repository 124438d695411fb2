"""Edits by the real server over its pipes, in front of real vLLM-Omni servers on the CPU.

The bundled model is trained, so its masked edits are judged by their colours. The tiny FLUX.2 klein has random weights:
with it, only what changes and what stays is compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.e2e.media_answers import error, facts
from tests.e2e.omni_server import ROOT, OmniServer
from tests.e2e.server_process import ServerProcess
from tests.e2e.tiny_adapters import random_image_adapter

Json = dict[str, Any]
Pixels = np.ndarray[Any, np.dtype[np.float64]]
SIDE = 128
BOX = (16, 16, 112, 112)
"""The masked part, on the grid of 16 pixels of the models' latents."""
EDGE = 8
"""Pixels beside the masked part that the autoencoder mixes with it."""
SMALL: Json = {"width": SIDE, "height": SIDE, "num_inference_steps": 4}


def pixels(path: str) -> Pixels:
    """The colours of an image, as numbers from 0 to 255."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=np.float64)


def differences(first: str, second: str) -> tuple[float, float]:
    """The mean absolute difference of two images' colours, inside the masked part and outside of it."""
    difference = np.abs(pixels(first) - pixels(second)).mean(axis=2)
    left, top, right, bottom = BOX
    inside = difference[top:bottom, left:right].mean()
    outside = np.ones_like(difference, dtype=bool)
    outside[top - EDGE : bottom + EDGE, left - EDGE : right + EDGE] = False
    return float(inside), float(difference[outside].mean())


def middle(path: str) -> Pixels:
    """The mean colour of the middle."""
    colour: Pixels = pixels(path)[56:72, 56:72].mean(axis=(0, 1))
    return colour


@pytest.fixture
def mask(tmp_path: Path) -> str:
    """The path of a mask that is white in `BOX`."""
    image = Image.new("L", (SIDE, SIDE))
    image.paste(255, BOX)
    image.save(tmp_path / "mask.png")
    return str(tmp_path / "mask.png")


@pytest.fixture(scope="module")
def demo(omni_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server in front of a vLLM-Omni with the bundled image model."""
    with OmniServer(ROOT / "models" / "demo-image") as omni:
        settings = {"OMNI_URL": omni.url, "OMNI_OUTPUT_DIR": str(tmp_path_factory.mktemp("demo"))}
        with ServerProcess(settings) as server:
            server.initialize()
            yield server


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Json:
    """The value of OMNI_LORA_MODULES."""
    folder = tmp_path_factory.mktemp("adapters")
    ink = str(random_image_adapter(folder / "ink", seed=1))
    return {
        "ink": ink,
        "oil": str(random_image_adapter(folder / "oil", seed=2)),
        "faint": {"path": ink, "scale": 0.25},
        "none": {"path": ink, "scale": 0},
        "missing": str(folder / "nowhere"),
    }


@pytest.fixture
def klein(omni_image_server: OmniServer, adapters: Json, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of the test's own in front of the shared vLLM-Omni with the tiny klein."""
    settings = {
        "OMNI_URL": omni_image_server.url,
        "OMNI_OUTPUT_DIR": str(tmp_path / "out"),
        "OMNI_LORA_MODULES": json.dumps(adapters),
    }
    with ServerProcess(settings) as process:
        process.initialize()
        yield process


def made(server: ServerProcess, prompt: str, **arguments: Any) -> str:
    """The path of an image."""
    return str(facts(server, "generate_image", {"prompt": prompt, **arguments})["file_path"])


@pytest.mark.parametrize("seed", range(3))
def test_masked_edit_changes_the_masked_part_and_nothing_else(demo: ServerProcess, mask: str, seed: int) -> None:
    first = facts(demo, "generate_image", {"prompt": "a red circle on a blue background", "seed": seed})
    edited = {"image_paths": [first["job_id"]], "mask_path": mask, "seed": seed + 100}
    told = facts(demo, "generate_image", {"prompt": "a yellow square on a blue background", **edited})
    path = told["file_path"]
    inside, outside = differences(first["file_path"], path)
    yellow = np.array([252, 228, 42])
    assert inside > 5 * outside
    assert outside < 8
    assert np.abs(middle(path) - yellow).mean() < np.abs(middle(first["file_path"]) - yellow).mean() / 2
    assert told["parameters_used"]["image_paths"] == [first["file_path"]]
    again = facts(demo, "generate_image", {"like": told["job_id"]})["file_path"]
    assert Path(again).read_bytes() == Path(path).read_bytes()


def test_mask_of_the_other_part_keeps_the_middle(demo: ServerProcess, mask: str, tmp_path: Path) -> None:
    first = made(demo, "a red circle on a blue background", seed=1)
    with Image.open(mask) as image:
        image.point(lambda value: 255 - value).save(tmp_path / "other.png")
    path = made(
        demo,
        "a red circle on a green background",
        image_paths=[first],
        mask_path=str(tmp_path / "other.png"),
        seed=2,
    )
    inside, outside = differences(first, path)
    assert outside > 3 * inside


def test_model_that_understands_no_images_edits_only_with_a_mask(demo: ServerProcess) -> None:
    first = facts(demo, "generate_image", {"prompt": "a red circle on a blue background"})
    arguments = {"prompt": "a green circle on a blue background", "image_paths": [first["job_id"]]}
    refused = error(demo, "generate_image", arguments)
    assert "edits images only with a mask" in refused
    assert "black-forest-labs/FLUX.2-klein-4B" in refused


def test_seed_and_strength_change_the_masked_part_alone(klein: ServerProcess, mask: str) -> None:
    first = made(klein, "a", seed=1, **SMALL)

    def edit(**more: Any) -> str:
        return made(klein, "b", image_paths=[first], mask_path=mask, **SMALL, **more)

    one, again, other = edit(seed=1), edit(seed=1), edit(seed=2)
    assert Path(one).read_bytes() == Path(again).read_bytes()
    for changed in (other, edit(seed=1, strength=0.75)):
        inside, outside = differences(one, changed)
        assert inside > 2 * outside
        assert inside > 5


def test_image_of_another_size_and_two_images_with_a_mask(klein: ServerProcess, mask: str) -> None:
    large = made(klein, "a", seed=1, width=256, height=192, num_inference_steps=1)
    told = facts(klein, "generate_image", {"prompt": "b", "image_paths": [large, large], "mask_path": mask, **SMALL})
    assert (told["parameters_used"]["width"], told["parameters_used"]["reference_images"]) == (SIDE, 2)
    assert "The first image and its mask were cropped to the shape of 128x128." in told["notes"]


def test_strength_without_a_mask_is_refused_where_it_would_be_ignored(klein: ServerProcess) -> None:
    first = made(klein, "a", **SMALL)
    refused = error(klein, "generate_image", {"prompt": "b", "image_paths": [first], "strength": 0.5, **SMALL})
    assert "uses strength only together with mask_path" in refused


def test_adapter_changes_the_image_and_leaves_the_next_one_alone(klein: ServerProcess) -> None:
    def image(**more: Any) -> Pixels:
        return pixels(made(klein, "a", seed=1, **SMALL, **more))

    base, ink, base_again = image(), image(lora="ink"), image()
    oil, faint, none = image(lora="oil"), image(lora="faint"), image(lora="none")
    assert np.array_equal(base, base_again)
    assert np.array_equal(base, none)
    assert not any(np.array_equal(base, each) for each in (ink, oil, faint))
    assert not np.array_equal(ink, oil)
    assert not np.array_equal(ink, faint)
    batch = facts(klein, "batch_generate", {"prompts": ["a"], "seeds": [1], "lora": "ink", **SMALL})
    assert batch["parameters_used"]["lora"] == "ink"
    assert np.array_equal(pixels(batch["results"][0]["file_path"]), ink)


def test_adapter_that_is_not_there_is_an_error_that_names_the_setting(klein: ServerProcess, adapters: Json) -> None:
    assert klein.result("get_model_info")["lora_modules"] == list(adapters)
    missing = error(klein, "generate_image", {"prompt": "a", "lora": "missing", **SMALL})
    assert missing.startswith("The vLLM server cannot use the LoRA adapter missing. OMNI_LORA_MODULES must name")
    unknown = error(klein, "generate_image", {"prompt": "a", "lora": adapters["ink"], **SMALL})
    assert "OMNI_LORA_MODULES names ink, oil, faint, none, missing." in unknown
    made(klein, "a", **SMALL)
