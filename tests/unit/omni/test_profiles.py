from __future__ import annotations

import json
from pathlib import Path

import pytest

from omni.errors import InvalidParameters
from omni.images.profiles import FALLBACK, PROFILES, ProfileBook


@pytest.mark.parametrize(
    "name",
    [
        "black-forest-labs/FLUX.2-klein-4B",
        "Black-Forest-Labs/flux.2-KLEIN-4b",
        "/models/FLUX.2-klein-4B",
        "/models/FLUX.2-klein-4B/",
        "FLUX.2-klein-4B",
    ],
)
def test_model_is_found_by_its_name_or_the_last_part_of_it(name: str) -> None:
    assert ProfileBook().find(name) == (PROFILES["black-forest-labs/FLUX.2-klein-4B"], True)


def test_model_under_another_name_is_found_by_where_the_server_has_it_from() -> None:
    assert ProfileBook().find("flux", "/models/FLUX.2-klein-9B")[0].estimated_vram_gb == 29


def test_unknown_model_gets_the_fallback() -> None:
    assert ProfileBook().find("someone/something") == (FALLBACK, False)


@pytest.mark.parametrize(
    ("pipeline", "parameter", "references"),
    [
        ("QwenImagePipeline", "true_cfg_scale", 0),
        ("Flux2KleinPipeline", "guidance_scale", 4),
        ("SomethingElse", "guidance_scale", None),
    ],
)
def test_files_of_an_unknown_model_tell_its_family(
    tmp_path: Path, pipeline: str, parameter: str, references: int | None
) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": pipeline}))
    profile, in_registry = ProfileBook().find("mine", str(tmp_path))
    assert (profile.guidance_parameter, profile.max_reference_images) == (parameter, references)
    assert (profile.default_steps, profile.default_guidance_scale, in_registry) == (28, 5.0, False)


@pytest.mark.parametrize("content", ["", "[]", '{"_class_name": 7}', "\xff"])
def test_damaged_files_of_a_model_tell_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "model_index.json").write_text(content)
    assert ProfileBook().find("mine", str(tmp_path)) == (FALLBACK, False)


TOML = """
["my/model"]
type = "standard"
default_steps = 12
default_resolution = [512, 768]
supported_aspect_ratios = {"2:3" = [512, 768]}

["Tongyi-MAI/Z-Image-Turbo"]
default_steps = 8
"""
JSON = json.dumps(
    {
        "my/model": {
            "type": "standard",
            "default_steps": 12,
            "default_resolution": [512, 768],
            "supported_aspect_ratios": {"2:3": [512, 768]},
        },
        "Tongyi-MAI/Z-Image-Turbo": {"default_steps": 8},
    }
)


@pytest.mark.parametrize(("name", "content"), [("profiles.toml", TOML), ("profiles.json", JSON)])
def test_file_adds_models_and_overrides_fields(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    book = ProfileBook(str(tmp_path / name))
    mine, in_registry = book.find("my/model")
    assert in_registry
    assert (mine.default_steps, mine.default_guidance_scale, mine.default_resolution) == (12, 5.0, (512, 768))
    turbo, _ = book.find("z-image-turbo")
    assert (turbo.default_steps, turbo.default_guidance_scale) == (8, 0.0)
    assert book.find("Qwen/Qwen-Image")[0] == PROFILES["Qwen/Qwen-Image"]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "No such file"),
        ("{", "neither JSON nor"),
        ("[1]", "must map names of models"),
        ('{"a": 1}', "must map names of models"),
        ('{"a": {"default_steps": 0}}', "a: Expected int >= 1 - at $.default_steps"),
        ('{"a": {"default_step": 4}}', "unknown field default_step"),
        ('{"a": {"default_resolution": [1024]}}', "a: Expected array of length 2"),
        ("[" * 100_000, "neither JSON nor"),
    ],
)
def test_file_that_cannot_be_used_is_named_with_the_reason(tmp_path: Path, content: str | None, text: str) -> None:
    path = tmp_path / "profiles.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InvalidParameters) as caught:
        ProfileBook(str(path)).find("x")
    assert text in str(caught.value)
    assert "OMNI_PROFILES" in str(caught.value)
    assert str(path) in str(caught.value)
