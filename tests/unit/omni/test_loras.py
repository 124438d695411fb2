"""LoRA adapters of the image server by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from omni.client import OmniClient
from omni.errors import InvalidParameters, ServerFailed
from omni.files.output_folder import OutputFolder
from omni.images.editing import NO_INPUTS, Inputs
from omni.images.generate import ImageMaker
from omni.images.loras import NO_LORAS, ImageLoras
from omni.images.parameters import ImageOptions
from omni.images.profiles import ProfileBook
from omni.jobs.jobs import Jobs
from settings.omni import ImageLora
from tests.decoder import DECODER
from tests.scripted_omni import ScriptedOmni, png, refuses

LORAS = ImageLoras({"ink": ImageLora("/loras/ink"), "soft": ImageLora("/loras/soft", 0.5)})
WAIT_S = 10.0


@pytest.fixture
def maker(omni: ScriptedOmni, jobs: Jobs, tmp_path: Path) -> ImageMaker:
    """Makes images with the scripted server, which has two adapters."""
    folder = OutputFolder(str(tmp_path / "out"))
    return ImageMaker(OmniClient(omni.url, 5.0), ProfileBook(), folder, jobs, DECODER, LORAS)


def made(maker: ImageMaker, lora: str | None, inputs: Inputs = NO_INPUTS) -> Any:
    options = ImageOptions(width=64, height=64, lora=lora)
    job = maker.start("image", maker.jobs.ask(maker.plan(["a"], options, inputs=inputs)), 1)
    assert job.wait(WAIT_S)
    return job.items[0]


def test_adapter_is_sent_with_its_folder_and_scale(maker: ImageMaker, omni: ScriptedOmni) -> None:
    assert made(maker, "soft").result.parameters.lora == "soft"
    assert omni.generations()[0]["lora"] == {"name": "soft", "path": "/loras/soft", "scale": 0.5}
    made(maker, "ink", Inputs([png()]))
    assert json.loads(omni.edits()[0]["lora"][0]) == {"name": "ink", "path": "/loras/ink", "scale": 1.0}


def test_request_without_an_adapter_has_none(maker: ImageMaker, omni: ScriptedOmni) -> None:
    made(maker, None)
    assert "lora" not in omni.generations()[0]


@pytest.mark.parametrize(
    ("loras", "text"),
    [
        (LORAS, "lora: there is no adapter '/loras/ink'. OMNI_LORA_MODULES names ink, soft."),
        (NO_LORAS, "lora: there is no adapter '/loras/ink'. The setting OMNI_LORA_MODULES names none."),
    ],
)
def test_unknown_adapter_is_refused_with_the_names(loras: ImageLoras, text: str) -> None:
    with pytest.raises(InvalidParameters) as caught:
        loras.check("/loras/ink")
    assert str(caught.value) == text


def test_unknown_adapter_is_refused_before_the_server_is_asked(maker: ImageMaker, omni: ScriptedOmni) -> None:
    with pytest.raises(InvalidParameters):
        made(maker, "nobody")
    assert omni.seen == []


def test_folder_that_the_server_does_not_have_is_an_error_that_names_the_setting(
    maker: ImageMaker, omni: ScriptedOmni
) -> None:
    said = "Image generation failed: [Errno 2] No such file or directory: '/loras/ink/adapter_config.json'"
    omni.script(refuses(500, said))
    error = made(maker, "ink").error
    assert error.startswith("The vLLM server cannot use the LoRA adapter ink. OMNI_LORA_MODULES must name its folder")
    assert "/loras" not in error
    assert made(maker, None).error.startswith("The vLLM server failed (HTTP 500)")


def test_other_failures_stay_as_they_are() -> None:
    error = ServerFailed("The vLLM server failed (HTTP 500): a flora of tensors.")
    assert LORAS.explained(error, "ink") is error
