"""`like`: an earlier image again, or with some things changed; and references to what jobs made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from omni.files.metadata import with_mp4_text, with_png_text
from tests.scripted_omni import ScriptedOmni, images_json, png, refuses
from tests.unit.handlers.image_calls import SMALL, WAIT_S, Json
from tests.unit.handlers.media_answers import blocks, facts
from tests.unit.handlers.tool_client import Client, make_image
from tests.unit.handlers.vision_calls import decide
from tests.unit.media.sample_media import video_file

MADE = {
    "model": "black-forest-labs/FLUX.2-klein-4B", "prompt": "a cat", "width": 64, "height": 64, "steps": 4,
    "guidance_scale": 1.0, "seed": 5,
}  # fmt: skip


@pytest.fixture
def first(omni_client: Client) -> Json:
    """What was told about an image."""
    arguments = {"prompt": "a cat", "seed": 5, "num_inference_steps": 3, "guidance_scale": 2.5, **SMALL}
    return facts(omni_client, "generate_image", arguments)


def written(tmp_path: Path, name: str = "a.png", **fields: object) -> str:
    """An image in the output folder that says that it was made so; its path."""
    (tmp_path / "out").mkdir(exist_ok=True)
    path = tmp_path / "out" / name
    path.write_bytes(with_png_text(png(), {"parameters": json.dumps({**MADE, **fields})}))
    return str(path)


def again(client: Client, like: str, **changes: object) -> Json:
    """The parameters of an image that is made like another one."""
    found: Json = facts(client, "generate_image", {"like": like, **changes})["parameters_used"]
    return found


# References


def test_unchanged_image_has_the_same_bytes(omni_client: Client, first: Json) -> None:
    for like in (first["job_id"], first["file_path"], Path(first["file_path"]).as_uri()):
        told = facts(omni_client, "generate_image", {"like": like})
        assert told["parameters_used"] == first["parameters_used"]
        assert told["file_path"] != first["file_path"]
        assert Path(told["file_path"]).read_bytes() == Path(first["file_path"]).read_bytes()
        assert "notes" not in told


def test_image_of_an_earlier_run_is_made_again_by_its_path(
    make_client: Callable[..., Client], omni: ScriptedOmni, first: Json, tmp_path: Path
) -> None:
    later = make_client(OMNI_URL=omni.url, OMNI_OUTPUT_DIR=str(tmp_path / "out"))
    assert again(later, first["file_path"]) == first["parameters_used"]
    text = later.error("generate_image", {"like": first["job_id"]})
    assert text.startswith(f"arguments.like: There is no job '{first['job_id']}'.")
    assert text.endswith("list_images has their paths.")


def test_image_of_a_batch_is_named_by_its_index(omni_client: Client) -> None:
    batch = facts(omni_client, "batch_generate", {"prompts": ["a", "b"], "seeds": [1, 2], **SMALL})
    batch_id = batch["batch_id"]
    assert again(omni_client, f"{batch_id}#1")["prompt"] == "b"
    assert again(omni_client, f"{batch_id}#0")["seed"] == 1
    without = omni_client.error("generate_image", {"like": batch_id})
    assert without == (
        f"arguments.like: The job {batch_id} has 2 results: add the index of one, {batch_id}#0 for the first."
    )
    beyond = omni_client.error("generate_image", {"like": f"{batch_id}#2"})
    assert beyond == f"arguments.like: The job {batch_id} has no result 2: its indexes are 0 to 1."


def test_job_without_that_file_is_told(omni_client: Client, omni: ScriptedOmni) -> None:
    omni.script(refuses(500, "boom"), lambda request, fields: request.answer(images_json(png())))
    batch = facts(omni_client, "batch_generate", {"prompts": ["a", "b"], "max_concurrent": 1, **SMALL})
    assert "boom" in omni_client.error("generate_image", {"like": f"{batch['batch_id']}#0"})
    omni.scripts.clear()
    omni.delay_s = WAIT_S
    running = facts(omni_client, "generate_image", {"prompt": "a", "wait_s": 0, **SMALL})["job_id"]
    assert "has not made this file yet" in omni_client.error("generate_image", {"like": running})
    omni_client.result("cancel_batch", {"batch_id": running})
    assert omni_client.error("generate_image", {"like": running}).endswith("It was cancelled.")


# What changes


def test_given_arguments_replace_the_earlier_ones(omni_client: Client, first: Json) -> None:
    like, used = first["file_path"], first["parameters_used"]
    assert again(omni_client, like, seed=6) == {**used, "seed": 6}
    assert again(omni_client, like, prompt="a dog") == {**used, "prompt": "a dog"}
    assert again(omni_client, like, width=128) == {**used, "width": 128}
    assert again(omni_client, like, guidance_scale=0, num_inference_steps=1) == {
        **used, "guidance_scale": 0.0, "steps": 1,
    }  # fmt: skip


def test_ratio_replaces_both_sides_without_a_note(omni_client: Client, first: Json) -> None:
    told = facts(omni_client, "generate_image", {"like": first["file_path"], "aspect_ratio": "16:9"})
    assert told["parameters_used"]["width"] > told["parameters_used"]["height"] > 64
    assert "notes" not in told


def test_negative_prompt_is_kept_and_can_be_removed(make_client: Callable[..., Client], tmp_path: Path) -> None:
    with ScriptedOmni("Qwen/Qwen-Image") as omni:
        client = make_client(OMNI_URL=omni.url, OMNI_OUTPUT_DIR=str(tmp_path / "out"))
        path = written(tmp_path, model="Qwen/Qwen-Image", negative_prompt="blur")
        assert again(client, path)["negative_prompt"] == "blur"
        assert "negative_prompt" not in again(client, path, negative_prompt="")


def test_name_preview_and_wait_are_those_of_the_call(omni_client: Client, first: Json) -> None:
    told = blocks(omni_client, "generate_image", {"like": first["job_id"], "filename": "again", "preview": "none"})
    assert json.loads(told[0]["text"])["file_path"].endswith("/again.png")
    assert [block["type"] for block in told] == ["text", "resource_link"]


def test_another_model_is_noted(omni_client: Client, tmp_path: Path) -> None:
    told = facts(omni_client, "generate_image", {"like": written(tmp_path, model="other/model")})
    assert told["notes"] == [
        "The image in like was made by other/model, this one by black-forest-labs/FLUX.2-klein-4B: it differs, even "
        "with the same seed."
    ]


def test_candidates_follow_the_earlier_seed_and_the_chosen_one_is_made_again(
    omni_client: Client, omni: ScriptedOmni, first: Json
) -> None:
    decide(omni_client, 0.2, 0.9)
    chosen = facts(omni_client, "generate_image", {"like": first["job_id"], "best_of": 2})
    assert sorted(fields["seed"] for fields in omni.generations()[1:]) == [5, 6]
    assert chosen["parameters_used"] == {**first["parameters_used"], "seed": 6}
    told = facts(omni_client, "generate_image", {"like": chosen["job_id"]})
    assert "check" not in told
    assert Path(told["file_path"]).read_bytes() == Path(chosen["file_path"]).read_bytes()


# Edits


def test_edit_needs_its_input_images_again_where_its_file_does_not_name_them(
    omni_client: Client, omni: ScriptedOmni, tmp_path: Path
) -> None:
    (tmp_path / "in.png").write_bytes(make_image("red"))
    path = written(tmp_path, reference_images=2)
    assert omni_client.error("generate_image", {"like": path}) == (
        "arguments.image_paths: the image in like is an edit, and its file does not name its input images; give them "
        "again, with mask_path and strength if it had them."
    )
    assert omni.generations() == []
    assert again(omni_client, path, image_paths=[str(tmp_path / "in.png")])["reference_images"] == 1


def test_edit_of_an_earlier_run_is_made_again_from_its_own_inputs(
    make_client: Callable[..., Client], omni: ScriptedOmni, tmp_path: Path
) -> None:
    for name, colour in (("in.png", "red"), ("mask.png", "white"), ("other.png", "blue")):
        (tmp_path / name).write_bytes(make_image(colour))
    inputs = {"image_paths": [str(tmp_path / "in.png")], "mask_path": str(tmp_path / "mask.png"), "strength": 0.5}
    settings = {"OMNI_URL": omni.url, "OMNI_OUTPUT_DIR": str(tmp_path / "out")}
    edited = facts(make_client(**settings), "generate_image", {"prompt": "swap", **inputs})
    later = make_client(**settings)
    assert again(later, edited["file_path"]) == edited["parameters_used"]
    assert again(later, edited["file_path"], strength=0.75) == {**edited["parameters_used"], "strength": 0.75}
    of_another = again(later, edited["file_path"], image_paths=[str(tmp_path / "other.png")])
    assert of_another["image_paths"] == [str(tmp_path / "other.png")]
    assert not {"mask", "mask_path", "strength"} & set(of_another)
    (tmp_path / "mask.png").unlink()
    gone = later.error("generate_image", {"like": edited["file_path"]})
    assert gone.startswith("arguments.mask_path: There is no file")


def test_input_images_are_read_by_the_rules_of_this_run(
    make_client: Callable[..., Client], omni: ScriptedOmni, tmp_path: Path
) -> None:
    (tmp_path / "in.png").write_bytes(make_image("red"))
    path = written(tmp_path, reference_images=1, image_paths=[str(tmp_path / "in.png")])
    allowed = str(tmp_path / "out")
    client = make_client(OMNI_URL=omni.url, OMNI_OUTPUT_DIR=allowed, VLLM_ALLOWED_MEDIA_DIRS=allowed)
    text = client.error("generate_image", {"like": path})
    assert text.startswith("arguments.image_paths[0]: The path")
    assert "is outside the folders" in text


# Refused


def test_prompt_or_like_is_needed(omni_client: Client, omni: ScriptedOmni) -> None:
    assert omni_client.error("generate_image", SMALL) == (
        "arguments.prompt: say what the image shows, or name an image to make again in like."
    )
    assert omni.seen == []


def test_files_that_this_server_did_not_write_are_refused(
    omni_client: Client, omni: ScriptedOmni, tmp_path: Path
) -> None:
    ours = Path(written(tmp_path))
    outside = tmp_path / "outside.png"
    outside.write_bytes(ours.read_bytes())
    (ours.parent / "link.png").symlink_to(outside)
    (ours.parent / "foreign.png").write_bytes(make_image("red"))
    for path in (outside, ours.parent / "link.png", ours.parent / "foreign.png", tmp_path / "none.png", "/etc/passwd"):
        text = omni_client.error("generate_image", {"like": str(path)})
        assert text == f'arguments.like: The file "{path}" is none that this server generated.'
    gone = omni_client.error("generate_image", {"like": str(ours.parent / "gone.png")})
    assert gone == f'arguments.like: There is no file "{ours.parent / "gone.png"}".'
    assert omni.seen == []


def test_files_of_ours_that_do_not_say_how_they_were_made_are_refused(omni_client: Client, tmp_path: Path) -> None:
    out = Path(written(tmp_path)).parent
    (out / "bare.png").write_bytes(with_png_text(png(), {}))
    (out / "video.mp4").write_bytes(with_mp4_text(video_file(), json.dumps(MADE)))
    (out / "video.png").write_bytes(with_mp4_text(video_file(), json.dumps(MADE)))
    for name in ("bare.png", "video.mp4", "video.png"):
        assert "does not say how it was made" in omni_client.error("generate_image", {"like": str(out / name)})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"steps": 10**9}, "expected int <= 200 - at $.num_inference_steps"),
        ({"seed": -1}, "expected int >= 0 - at $.seed"),
        ({"prompt": ""}, "expected str of length >= 1 - at $.prompt"),
        ({"width": 10**6}, "expected int <= 16384 - at $.width"),
    ],
)
def test_parameters_that_no_call_may_have_are_refused(
    omni_client: Client, omni: ScriptedOmni, tmp_path: Path, fields: Json, words: str
) -> None:
    text = omni_client.error("generate_image", {"like": written(tmp_path, **fields)})
    assert text.startswith("arguments.like: the file has parameters that are no valid arguments: ")
    assert words in text.replace("Expected", "expected")
    assert omni.generations() == []
    assert again(omni_client, written(tmp_path, **fields), seed=1, num_inference_steps=2, prompt="a", **SMALL)


@pytest.mark.parametrize("like", ["\0", "image_0123456789abcdef#", "x" * 5_000, "file://host/a.png", "~", "..", "#0"])
def test_hostile_references_are_refused_in_one_sentence(omni_client: Client, like: str) -> None:
    text = omni_client.error("generate_image", {"like": like})
    assert text.startswith("arguments.like: ")
    assert len(text) < 500
    assert "\n" not in text


def test_like_is_not_stored_with_the_image(first: Json, omni_client: Client) -> None:
    told = facts(omni_client, "generate_image", {"like": first["job_id"], "seed": 9})
    assert b"like" not in Path(told["file_path"]).read_bytes()
    assert msgspec.json.decode(json.dumps(told["parameters_used"]).encode())["seed"] == 9
