"""Images from prompts: results, previews, edits and refused arguments."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from handlers.resources.files import read_written_file, written_files
from tests.scripted_omni import ScriptedOmni
from tests.unit.handlers.image_calls import SMALL, Json
from tests.unit.handlers.media_answers import blocks, facts
from tests.unit.handlers.tool_client import Client, make_image


def test_image_comes_as_facts_preview_and_link(omni_client: Client, tmp_path: Path) -> None:
    text, image, link = blocks(omni_client, "generate_image", {"prompt": "A cat", "seed": 42, **SMALL})
    told = json.loads(text["text"])
    path = Path(told["file_path"])
    assert path.parent == tmp_path / "out"
    assert told == {
        "status": "success",
        "file_path": str(path),
        "generation_time_seconds": told["generation_time_seconds"],
        "parameters_used": {
            "model": "black-forest-labs/FLUX.2-klein-4B",
            "prompt": "A cat",
            "width": 64,
            "height": 64,
            "steps": 4,
            "guidance_scale": 1.0,
            "seed": 42,
        },
        "job_id": told["job_id"],
    }
    assert (image["type"], image["mimeType"]) == ("image", "image/jpeg")
    assert base64.b64decode(image["data"])[:2] == b"\xff\xd8"
    assert link == {
        "type": "resource_link",
        "uri": path.as_uri(),
        "name": path.name,
        "description": "A cat",
        "mimeType": "image/png",
        "size": path.stat().st_size,
    }


def test_folder_whose_name_is_not_utf8_is_told_as_a_url(
    make_client: Callable[..., Client], omni: ScriptedOmni, tmp_path: Path
) -> None:
    folder = os.fsencode(tmp_path) + b"/\xe9t\xe9"
    client = make_client(OMNI_URL=omni.url, OMNI_OUTPUT_DIR=os.fsdecode(folder))
    text, shown, link = blocks(client, "generate_image", {"prompt": "a", **SMALL})
    path = json.loads(text["text"])["file_path"]
    assert path.startswith(f"file://{tmp_path}/%E9t%E9/img_")
    assert link["uri"] == path
    assert shown["type"] == "image"
    (name,) = os.listdir(folder)
    assert path.endswith(os.fsdecode(name))
    (listed,) = [one.uri for one in written_files(client.services)]
    assert listed == path
    read = read_written_file(path, client.services)
    assert read.data[:4] == b"\x89PNG"
    batch = facts(client, "batch_generate", {"prompts": ["a"], "preview": "none", **SMALL})
    assert batch["results"][0]["file_path"].startswith(f"file://{tmp_path}/%E9t%E9/img_")


@pytest.mark.parametrize(
    ("preview", "kinds"),
    [
        ("none", ["text", "resource_link"]),
        ("small", ["text", "image", "resource_link"]),
        ("full", ["text", "image", "resource_link"]),
    ],
)
def test_preview_is_as_asked_for(omni_client: Client, preview: str, kinds: list[str]) -> None:
    content = blocks(omni_client, "generate_image", {"prompt": "a", "preview": preview, **SMALL})
    assert [block["type"] for block in content] == kinds
    if preview == "full":
        assert content[1]["mimeType"] == "image/png"


def test_older_revisions_get_no_link(omni_client: Client) -> None:
    call = omni_client.make_call("generate_image", {"prompt": "a", **SMALL}, revision="2025-03-26")
    assert [block["type"] for block in omni_client.toolbox.run(call)["content"]] == ["text", "image"]


def test_full_preview_that_no_result_can_hold_is_reduced_with_a_note(
    make_client: Callable[..., Client], omni: ScriptedOmni, tmp_path: Path
) -> None:
    noisy = Image.frombytes("RGB", (256, 256), os.urandom(256 * 256 * 3))
    noisy.save(tmp_path / "noisy.png")
    data = base64.b64encode((tmp_path / "noisy.png").read_bytes()).decode()
    omni.script(lambda request, fields: request.answer(json.dumps({"data": [{"b64_json": data}]}).encode()))
    client = make_client(OMNI_URL=omni.url, OMNI_OUTPUT_DIR=str(tmp_path), VLLM_MAX_RESULT_BYTES="25000")
    told = facts(client, "generate_image", {"prompt": "a", "width": 256, "height": 256, "preview": "full"})
    assert told["notes"] == ["The image is too large for a result in full size; the preview is reduced."]


def test_notes_say_what_was_not_followed(omni_client: Client, omni: ScriptedOmni) -> None:
    told = facts(omni_client, "generate_image", {"prompt": "a", "negative_prompt": "blurry", **SMALL})
    assert told["notes"] == ["negative_prompt was ignored: this model does not support negative prompts."]
    assert "negative_prompt" not in omni.generations()[0]


def test_images_to_begin_from_go_to_the_edits_endpoint(omni_client: Client, omni: ScriptedOmni, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(make_image("red"))
    data_url = "data:image/png;base64," + base64.b64encode(make_image("blue")).decode()
    told = facts(
        omni_client, "generate_image", {"prompt": "swap", "image_paths": [str(tmp_path / "a.png"), data_url], **SMALL}
    )
    assert told["parameters_used"]["reference_images"] == 2
    assert [path for _, path, _ in omni.seen][-1] == "/v1/images/edits"


def test_edit_without_a_size_keeps_the_shape_of_the_upright_first_image(
    omni_client: Client, omni: ScriptedOmni, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.new("RGB", (320, 128), "red").save(tmp_path / "turned.jpg", exif=exif)
    (tmp_path / "b.png").write_bytes(make_image("blue"))
    paths = [str(tmp_path / "turned.jpg"), str(tmp_path / "b.png")]
    blocks(omni_client, "generate_image", {"prompt": "swap", "image_paths": paths})
    assert b'name="size"\r\n\r\n128x320\r\n' in omni.seen[-1][2]["body"]


def test_image_to_begin_from_that_cannot_be_read_is_named(
    omni_client: Client, omni: ScriptedOmni, tmp_path: Path
) -> None:
    (tmp_path / "a.png").write_bytes(make_image("red"))
    paths = [str(tmp_path / "a.png"), "/nowhere/b.png"]
    error = omni_client.error("generate_image", {"prompt": "swap", "image_paths": paths})
    assert error == 'arguments.image_paths[1]: There is no file "/nowhere/b.png".'
    assert omni.generations() == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "prompt"),
        ({"prompt": ""}, "arguments.prompt: expected str of length >= 1"),
        ({"prompt": "a", "width": 0}, "arguments.width: expected int >= 16"),
        ({"prompt": "a", "width": 1, "height": 100_000}, "arguments.width"),
        ({"prompt": "a", "height": 100_000}, "arguments.height: expected int <= 16384"),
        ({"prompt": "a", "width": 17}, "Width 17 is not a multiple of 16. Nearest valid width is 16."),
        ({"prompt": "a", "width": True}, "arguments.width: expected int"),
        ({"prompt": "a", "width": "512 px"}, "arguments.width: expected int"),
        ({"prompt": "a", "num_inference_steps": 0}, "arguments.num_inference_steps: expected int >= 1"),
        ({"prompt": "a", "num_inference_steps": 10**6}, "arguments.num_inference_steps: expected int <= 200"),
        ({"prompt": "a", "seed": -1}, "arguments.seed: expected int >= 0"),
        ({"prompt": "a", "seed": 2**64}, "arguments.seed"),
        ({"prompt": "a", "guidance_scale": float("nan")}, "arguments.guidance_scale"),
        ({"prompt": "a", "guidance_scale": -0.1}, "arguments.guidance_scale: expected float >= 0"),
        ({"prompt": "a", "guidance_scale": 1e9}, "arguments.guidance_scale"),
        ({"prompt": "a", "aspect_ratio": "21:9"}, "not one of this model's"),
        ({"prompt": "a", "aspect_ratio": "x" * 50}, "arguments.aspect_ratio"),
        ({"prompt": "a", "filename": "../../etc/x"}, "filename: use a name without folders"),
        ({"prompt": "a", "filename": "x\0"}, "filename"),
        ({"prompt": "a", "image_paths": []}, "arguments.image_paths: expected array of length >= 1"),
        ({"prompt": "a", "image_paths": ["a"] * 5}, "arguments.image_paths: expected array of length <= 4"),
        ({"prompt": "a", "preview": "huge"}, "arguments.preview"),
        ({"prompt": "a", "output_dir": "/etc"}, "there is no such argument"),
        ({"prompt": "a", "n": 4}, "there is no such argument"),
    ],
)
def test_bad_arguments_are_refused_and_nothing_is_made(
    omni_client: Client, omni: ScriptedOmni, tmp_path: Path, arguments: Json, text: str
) -> None:
    assert text in omni_client.error("generate_image", arguments)
    assert omni.generations() == []
    assert not any((tmp_path / "out").glob("*"))
