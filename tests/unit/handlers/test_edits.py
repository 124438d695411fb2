"""Edits: references to what jobs made, masks, strength, adapters, and what results say of them."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.scripted_omni import ScriptedOmni, png, refuses
from tests.unit.handlers.image_calls import SMALL, Json
from tests.unit.handlers.media_answers import facts
from tests.unit.handlers.tool_client import Client


@pytest.fixture
def picture(tmp_path: Path) -> str:
    """The path of an image."""
    (tmp_path / "picture.png").write_bytes(png((64, 64), 255))
    return str(tmp_path / "picture.png")


@pytest.fixture
def mask(tmp_path: Path) -> str:
    """The path of a mask for its left half."""
    image = Image.new("1", (64, 64))
    image.paste(1, (0, 0, 32, 64))
    image.save(tmp_path / "mask.png")
    return str(tmp_path / "mask.png")


def sent(omni: ScriptedOmni, name: str) -> list[Image.Image]:
    """The files of a name in the last edit."""
    return [Image.open(io.BytesIO(data)) for data in omni.edits()[-1][name]]


def test_mask_and_strength_reach_the_server_and_the_result(
    omni_client: Client, omni: ScriptedOmni, picture: str, mask: str
) -> None:
    told = facts(
        omni_client,
        "generate_image",
        {"prompt": "green", "image_paths": [picture], "mask_path": mask, "strength": 0.75, **SMALL},
    )
    used = told["parameters_used"]
    assert (used["mask"], used["strength"], used["image_paths"], used["mask_path"]) == (True, 0.75, [picture], mask)
    (cut,) = sent(omni, "mask_image")
    assert [cut.getpixel((column, 0)) for column in (0, 31, 32, 63)] == [255, 255, 0, 0]
    assert omni.edits()[-1]["strength"] == [b"0.75"]
    assert "notes" not in told


@pytest.mark.parametrize("data_url_of", ["image", "mask"])
def test_paths_are_only_told_where_all_inputs_are_files(
    omni_client: Client, picture: str, mask: str, data_url_of: str
) -> None:
    path = picture if data_url_of == "image" else mask
    url = "data:image/png;base64," + base64.b64encode(Path(path).read_bytes()).decode()
    images, mask = ([url], mask) if data_url_of == "image" else ([picture], url)
    told = facts(omni_client, "generate_image", {"prompt": "a", "image_paths": images, "mask_path": mask, **SMALL})
    assert told["parameters_used"]["mask"] is True
    assert told["parameters_used"].keys().isdisjoint({"image_paths", "mask_path"})


def test_file_url_is_told_as_a_path(omni_client: Client, picture: str) -> None:
    told = facts(omni_client, "generate_image", {"prompt": "a", "image_paths": [Path(picture).as_uri()], **SMALL})
    assert told["parameters_used"]["image_paths"] == [picture]


def test_masked_edit_is_made_again_by_like(omni_client: Client, omni: ScriptedOmni, picture: str, mask: str) -> None:
    arguments = {"prompt": "green", "image_paths": [picture], "mask_path": mask, "strength": 0.75, "seed": 3, **SMALL}
    first = facts(omni_client, "generate_image", arguments)
    again = facts(omni_client, "generate_image", {"like": first["file_path"]})
    assert again["parameters_used"] == first["parameters_used"]
    assert omni.edits()[0] == omni.edits()[1]


def test_jobs_can_be_named_in_place_of_paths(omni_client: Client, omni: ScriptedOmni) -> None:
    batch = facts(omni_client, "batch_generate", {"prompts": ["a", "b"], "seeds": [1, 255], **SMALL})
    one = facts(omni_client, "generate_image", {"prompt": "c", "seed": 200, **SMALL})
    references = [one["job_id"], f"{batch['batch_id']}#0", f"{batch['batch_id']}#1"]
    told = facts(omni_client, "generate_image", {"prompt": "combine", "image_paths": references, **SMALL})
    assert [image.getpixel((0, 0)) for image in sent(omni, "image[]")] == [(200, 0, 0), (1, 0, 0), (255, 0, 0)]
    assert told["parameters_used"]["image_paths"] == [
        one["file_path"],
        *(entry["file_path"] for entry in batch["results"]),
    ]


def test_job_can_be_the_mask(omni_client: Client, omni: ScriptedOmni, picture: str) -> None:
    white = facts(omni_client, "generate_image", {"prompt": "white", "seed": 0xFFFFFF, **SMALL})["job_id"]
    told = facts(omni_client, "generate_image", {"prompt": "a", "image_paths": [picture], "mask_path": white, **SMALL})
    assert told["notes"] == ["The mask is white all over: the whole image is changed."]


def test_images_of_jobs_can_be_read_where_no_folder_is_allowed(
    make_client: Callable[..., Client], omni: ScriptedOmni, tmp_path: Path
) -> None:
    (tmp_path / "allowed").mkdir()
    client = make_client(
        OMNI_URL=omni.url, OMNI_OUTPUT_DIR=str(tmp_path / "out"), VLLM_ALLOWED_MEDIA_DIRS=str(tmp_path / "allowed")
    )
    made = facts(client, "generate_image", {"prompt": "a", **SMALL})
    for reference in (made["job_id"], made["file_path"]):
        facts(client, "generate_image", {"prompt": "b", "image_paths": [reference], **SMALL})
    assert len(omni.edits()) == 2
    (tmp_path / "out" / "other.png").write_bytes(png())
    error = client.error("generate_image", {"prompt": "b", "image_paths": [str(tmp_path / "out" / "other.png")]})
    assert "outside the folders that VLLM_ALLOWED_MEDIA_DIRS allows" in error


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        ("image_0123456789abcdef", "arguments.image_paths[0]: There is no job 'image_0123456789abcdef'."),
        ("{batch}", "has 2 results: add the index of one, {batch}#0 for the first."),
        ("{batch}#2", "has no result 2: its indexes are 0 to 1."),
        ("{batch}#9999", "has no result 9999"),
        ("{batch}#1", "There is no file of result 1 of the job {batch}. The vLLM server failed (HTTP 500): boom."),
        ("{batch}#-1", "There is no file"),
    ],
)
def test_job_without_such_an_image_is_an_error(
    omni_client: Client, omni: ScriptedOmni, reference: str, text: str
) -> None:
    omni.script(omni.honest, refuses(500, "boom"))
    arguments = {"prompts": ["a", "b"], "max_concurrent": 1, **SMALL}
    batch = facts(omni_client, "batch_generate", arguments)["batch_id"]
    error = omni_client.error(
        "generate_image", {"prompt": "a", "image_paths": [reference.format(batch=batch)], **SMALL}
    )
    assert text.format(batch=batch) in error
    assert omni.edits() == []


def test_job_that_still_runs_is_an_error(omni_client: Client, omni: ScriptedOmni) -> None:
    omni.delay_s = 0.5
    job_id = facts(omni_client, "generate_image", {"prompt": "a", "wait_s": 0, **SMALL})["job_id"]
    error = omni_client.error("generate_image", {"prompt": "b", "image_paths": [job_id], **SMALL})
    assert error == (f"arguments.image_paths[0]: The job {job_id} has not made this file yet; job_status waits for it.")
    facts(omni_client, "job_status", {"job_id": job_id, "wait_s": 10})


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"mask_path": "{picture}"}, "arguments.mask_path: a mask needs image_paths"),
        ({"image_paths": ["{picture}"], "mask_path": ""}, "arguments.mask_path: expected str of length >= 1"),
        ({"image_paths": ["{picture}"], "mask_path": "/no/mask.png"}, 'arguments.mask_path: There is no file "/no/'),
        ({"image_paths": ["{picture}"], "mask_path": "{text}"}, "arguments.mask_path: "),
        ({"image_paths": ["{picture}"], "mask_path": "{black}"}, "mask_path: the mask has no white"),
        ({"image_paths": ["{picture}"], "strength": 0.5}, "uses strength only together with mask_path"),
        ({"strength": 0.5}, "strength needs image_paths"),
        ({"strength": 0}, "arguments.strength: expected float > 0"),
        ({"strength": 1.1}, "arguments.strength: expected float <= 1"),
        ({"lora": "/etc"}, "lora: there is no adapter '/etc'. The setting OMNI_LORA_MODULES names none."),
        ({"lora": ""}, "arguments.lora: expected str of length >= 1"),
        ({"lora": {"path": "/x"}}, "arguments.lora: expected str"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_made(
    omni_client: Client, omni: ScriptedOmni, picture: str, tmp_path: Path, arguments: Json, text: str
) -> None:
    (tmp_path / "text.txt").write_text("no image")
    Image.new("L", (64, 64)).save(tmp_path / "black.png")
    places = {"picture": picture, "text": str(tmp_path / "text.txt"), "black": str(tmp_path / "black.png")}
    filled = json.loads(json.dumps(arguments))
    for name, value in filled.items():
        if isinstance(value, str):
            filled[name] = value.format(**places)
        elif isinstance(value, list):
            filled[name] = [entry.format(**places) for entry in value]
    assert text in omni_client.error("generate_image", {"prompt": "a", **filled})
    assert omni.edits() == omni.generations() == []


def test_adapters_are_named_by_the_setting(
    make_client: Callable[..., Client], omni: ScriptedOmni, tmp_path: Path
) -> None:
    client = make_client(OMNI_URL=omni.url, OMNI_OUTPUT_DIR=str(tmp_path), OMNI_LORA_MODULES="ink=/loras/ink")
    assert client.result("get_model_info").lora_modules == ["ink"]
    told = facts(client, "batch_generate", {"prompts": ["a", "b"], "lora": "ink", **SMALL})
    assert told["parameters_used"]["lora"] == "ink"
    assert [fields["lora"]["path"] for fields in omni.generations()] == ["/loras/ink"] * 2
    assert "/loras" not in json.dumps(told)
    error = client.error("batch_generate", {"prompts": ["a"], "lora": "oil", **SMALL})
    assert error == "lora: there is no adapter 'oil'. OMNI_LORA_MODULES names ink."


def test_model_info_says_what_an_edit_may_have(omni_client: Client) -> None:
    info = omni_client.result("get_model_info")
    assert (info.max_reference_images, info.supports_mask, info.supports_strength) == (4, True, "with_mask")
    assert info.lora_modules == []


def test_summary_of_a_batch_has_the_parameters_once(omni_client: Client) -> None:
    told = facts(omni_client, "batch_generate", {"prompts": ["a", "b"], "seeds": [1, 2], **SMALL})
    assert told["parameters_used"] == {
        "model": "black-forest-labs/FLUX.2-klein-4B",
        "width": 64,
        "height": 64,
        "steps": 4,
        "guidance_scale": 1.0,
    }
    entries = [{key: entry[key] for key in ("index", "prompt", "seed")} for entry in told["results"]]
    assert entries == [{"index": 0, "prompt": "a", "seed": 1}, {"index": 1, "prompt": "b", "seed": 2}]
    assert all(len(entry) == 5 for entry in told["results"])


def test_image_of_a_batch_that_differs_says_so_itself(omni_client: Client, omni: ScriptedOmni) -> None:
    omni.script(omni.honest, lambda request, fields: omni.honest(request, {**fields, "size": "32x64"}))
    told = facts(omni_client, "batch_generate", {"prompts": ["a", "b"], "max_concurrent": 1, **SMALL})
    assert told["parameters_used"]["width"] == 64
    assert [entry.get("width") for entry in told["results"]] == [None, 32]


def test_vision_tools_take_jobs_too(omni_client: Client) -> None:
    job_id = facts(omni_client, "generate_image", {"prompt": "a", **SMALL})["job_id"]
    assert "There is no job" in omni_client.error(
        "analyze_single_image", {"image_path": "image_0123456789abcdef", "query": "?"}
    )
    call = omni_client.make_call("analyze_single_image", {"image_path": job_id, "query": "?"})
    from handlers.image_reading import call_images

    assert call_images(call, omni_client.services).read(job_id).image.size == (64, 64)
