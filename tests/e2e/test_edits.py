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

from tests.e2e.images import as_data_url
from tests.e2e.media_answers import error, facts
from tests.e2e.omni_server import ROOT, OmniServer
from tests.e2e.server_process import ServerProcess
from tests.e2e.tiny_adapters import random_image_adapter

Json = dict[str, Any]
SIDE = 128
BOX = (16, 16, 112, 112)
"""The masked part. Its edges are on the grid of 16 pixels of the models' latents."""
MARGIN = 16
"""Pixels around the masked part that the autoencoder mixes with it."""
SMALL: Json = {"width": 128, "height": 128, "num_inference_steps": 4}


def written_mask(folder: Path, box: tuple[int, int, int, int] = BOX, side: int = SIDE) -> str:
    """The path of a mask that is white in a box."""
    image = Image.new("L", (side, side))
    image.paste(255, box)
    image.save(folder / "mask.png")
    return str(folder / "mask.png")


def pixels(path: str) -> np.ndarray[Any, Any]:
    """The colours of an image, as numbers from 0 to 255."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=np.float64)


def differences(first: str, second: str) -> tuple[float, float]:
    """The mean absolute difference of two images' colours inside the masked part, and well outside of it."""
    difference = np.abs(pixels(first) - pixels(second)).mean(axis=2)
    outside = np.ones_like(difference, dtype=bool)
    left, top, right, bottom = BOX
    outside[max(0, top - MARGIN) : bottom + MARGIN, max(0, left - MARGIN) : right + MARGIN] = False
    if not outside.any():
        outside[:] = True
        outside[top - 8 : bottom + 8, left - 8 : right + 8] = False
    return float(difference[top:bottom, left:right].mean()), float(difference[outside].mean())


@pytest.fixture(scope="module")
def demo_images(omni_environment: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server in front of a vLLM-Omni with the bundled image model."""
    if not (ROOT / "models" / "demo-image" / "vae" / "diffusion_pytorch_model.safetensors").exists():
        pytest.skip("the bundled image model is not there")
    out = str(tmp_path_factory.mktemp("demo"))
    with (
        OmniServer(ROOT / "models" / "demo-image") as omni,
        ServerProcess({"OMNI_URL": omni.url, "OMNI_OUTPUT_DIR": out}) as server,
    ):
        server.initialize()
        yield server


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Json:
    """What OMNI_LORA_MODULES says."""
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


@pytest.mark.parametrize(("prompt", "colour"), [("a green circle on a blue background", (28, 160, 46))])
def test_masked_edit_changes_the_masked_part_and_nothing_else(
    demo_images: ServerProcess, tmp_path: Path, prompt: str, colour: tuple[int, int, int]
) -> None:
    mask = written_mask(tmp_path)
    for seed in range(4):
        first = facts(
            demo_images, "generate_image", {"prompt": "a red circle on a blue background", "seed": seed}
        )
        edit = facts(
            demo_images,
            "generate_image",
            {"prompt": prompt, "image_paths": [first["job_id"]], "mask_path": mask, "seed": seed + 100},
        )
        print(seed, differences(first["file_path"], edit["file_path"]), pixels(edit["file_path"])[48:80, 48:80].mean(axis=(0, 1)))


def test_strength_and_mask_klein(klein: ServerProcess, tmp_path: Path) -> None:
    mask = written_mask(tmp_path)
    image = facts(klein, "generate_image", {"prompt": "a", "seed": 1, **SMALL})["job_id"]
    edits = {}
    for name, more in {
        "1": {"seed": 1}, "2": {"seed": 2}, "3": {"seed": 2, "prompt": "something else"}, "half": {"seed": 1, "strength": 0.5}, "half again": {"seed": 1, "strength": 0.5},
    }.items():
        edits[name] = facts(klein, "generate_image", {"prompt": "b", "image_paths": [image], "mask_path": mask, **SMALL, **more})["file_path"]
    for a, b in (("1", "2"), ("2", "3"), ("1", "half"), ("half", "half again")):
        print(a, b, differences(edits[a], edits[b]))


def test_lora(klein: ServerProcess) -> None:
    made = {}
    for name in (None, "ink", "ink", "oil", "faint", "none", None):
        arguments = {"prompt": "a", "seed": 1, **SMALL, **({"lora": name} if name else {})}
        path = facts(klein, "generate_image", arguments)["file_path"]
        made.setdefault(str(name), []).append(pixels(path))
    base = made["None"][0]
    for name, arrays in made.items():
        print(name, [np.abs(base - array).mean() for array in arrays])
    print(error(klein, "generate_image", {"prompt": "a", "lora": "missing", **SMALL}))
    print(error(klein, "generate_image", {"prompt": "a", "lora": "nobody", **SMALL}))
    print(facts(klein, "batch_generate", {"prompts": ["a"], "seeds": [1], "lora": "ink", **SMALL}))
