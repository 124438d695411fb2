from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from omni.errors import InvalidParameters, OutputFailed, ServerUnreachable
from omni.images.editing import NO_INPUTS, Inputs
from omni.images.generate import ImageMaker, ImagePlan
from omni.images.parameters import ImageOptions
from omni.images.speed import SpeedBook, estimated_s
from omni.jobs.job import State
from omni.jobs.jobs import Jobs
from tests.scripted_omni import Route, ScriptedOmni, answers, hangs_up, images_json, png, refuses
from tests.waiting import wait_until

WAIT_S = 10.0
SMALL = ImageOptions(width=64, height=64)


def planned(maker: ImageMaker, *prompts: str, wishes: ImageOptions = SMALL, **options: Any) -> ImagePlan:
    return maker.jobs.ask(maker.plan(prompts or ("a cat",), wishes, **options))


def made(
    maker: ImageMaker, *prompts: str, wishes: ImageOptions = SMALL, filename: str | None = None, **options: Any
) -> Any:
    job = maker.start("batch", planned(maker, *prompts, wishes=wishes, **options), 4, filename)
    assert job.wait(WAIT_S)
    return job


def written(tmp_path: Path) -> list[str]:
    return sorted(os.listdir(tmp_path / "out"))


def test_image_is_saved_with_its_parameters(maker: ImageMaker, tmp_path: Path) -> None:
    job = made(maker, "größer", wishes=ImageOptions(width=64, height=32, seed=7), filename="mine")
    result = job.items[0].result
    assert result.file_path == str(tmp_path / "out" / "mine.png")
    with Image.open(result.file_path) as image:
        parameters = json.loads(image.text["parameters"])  # type: ignore[attr-defined]
        assert image.size == (64, 32)
    assert parameters == {
        "model": "black-forest-labs/FLUX.2-klein-4B",
        "prompt": "größer",
        "width": 64,
        "height": 32,
        "steps": 4,
        "guidance_scale": 1.0,
        "seed": 7,
    }


def test_same_request_writes_the_same_file(maker: ImageMaker) -> None:
    jobs = [made(maker, wishes=ImageOptions(width=64, height=64, seed=7)) for _ in range(2)]
    first, second = (Path(job.items[0].result.file_path) for job in jobs)
    assert first != second
    assert first.read_bytes() == second.read_bytes()


def test_each_image_of_a_batch_has_its_seed_and_request(maker: ImageMaker, omni: ScriptedOmni) -> None:
    job = made(maker, "a", "b", "c", seeds=[1, 2, 3])
    assert [item.result.parameters.seed for item in job.items] == [1, 2, 3]
    assert {(fields["prompt"], fields["seed"], fields["n"]) for fields in omni.generations()} == {
        ("a", 1, 1),
        ("b", 2, 1),
        ("c", 3, 1),
    }


def test_one_bad_prompt_fails_alone(maker: ImageMaker, omni: ScriptedOmni, tmp_path: Path) -> None:
    def route(request: Any, fields: Any) -> None:
        (refuses(500, "`prompt` is bad") if fields["prompt"] == "bad" else omni.honest)(request, fields)

    omni.script(route)
    job = made(maker, "a", "bad", "c")
    assert [item.state for item in job.items] == [State.SUCCEEDED, State.FAILED, State.SUCCEEDED]
    assert job.items[1].error == "The vLLM server failed (HTTP 500): `prompt` is bad."
    assert len(written(tmp_path)) == 2


def test_lost_connection_is_that_images_error(maker: ImageMaker, omni: ScriptedOmni, tmp_path: Path) -> None:
    omni.script(hangs_up)
    job = made(maker)
    assert job.items[0].error is not None
    assert "was lost" in job.items[0].error
    assert len(omni.generations()) == 1
    assert written(tmp_path) == []


@pytest.mark.parametrize(
    "route",
    [
        *(answers(b"", status) for status in (401, 403, 404, 405, 500, 502, 503)),
        answers(b"<html>"),
        answers(b'{"data": []}'),
        answers(b"[7]"),
    ],
)
def test_model_that_is_not_told_stops_nothing(maker: ImageMaker, omni: ScriptedOmni, route: Route) -> None:
    omni.script(route, path="/v1/models")
    job = made(maker)
    assert job.state is State.SUCCEEDED
    (fields,) = omni.generations()
    assert "model" not in fields
    assert (fields["num_inference_steps"], fields["size"]) == (28, "64x64")
    assert job.items[0].result.parameters.model == "unknown"
    (note,) = job.plan.notes
    assert note.startswith("The server does not report its model. ")
    assert "fallback defaults (steps=28, guidance=5.0)" in note


@pytest.mark.parametrize(
    "route",
    [
        answers(images_json(b"GIF89a not an image at all")),
        answers(images_json(png((64, 64))[:60])),
        answers(images_json(b"<html>")),
        answers(images_json(b"\x89PNG\r\n\x1a\n" + b"\0" * 100)),
        refuses(500, "boom"),
    ],
)
def test_what_is_no_image_is_not_saved(maker: ImageMaker, omni: ScriptedOmni, tmp_path: Path, route: Route) -> None:
    omni.script(route)
    job = made(maker)
    assert job.state is State.FAILED
    assert written(tmp_path) == []


def test_other_formats_become_png(maker: ImageMaker, omni: ScriptedOmni) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "JPEG")
    omni.script(answers(images_json(buffer.getvalue())))
    path = made(maker).items[0].result.file_path
    with Image.open(path) as image:
        assert image.format == "PNG"


def test_size_that_the_server_made_is_told(maker: ImageMaker, omni: ScriptedOmni) -> None:
    omni.script(answers(images_json(png((96, 48)))))
    result = made(maker).items[0].result
    assert (result.parameters.width, result.parameters.height) == (96, 48)
    assert result.notes == ["The server made 96x48 pixels instead of 64x64."]


def test_image_that_is_there_is_kept_when_the_job_is_cancelled(
    maker: ImageMaker, omni: ScriptedOmni, tmp_path: Path
) -> None:
    omni.delay_s = 0.05
    plan = planned(maker, *"abcdefgh")
    job = maker.start("batch", plan, 1)
    wait_until(lambda: job.n_ended >= 2)
    maker.jobs.cancel(job)
    assert job.wait(WAIT_S)
    assert job.state is State.CANCELLED
    assert job.count(State.SUCCEEDED) >= 2
    assert len(written(tmp_path)) == job.count(State.SUCCEEDED)


def test_model_is_asked_for_again_only_after_a_while(maker: ImageMaker, omni: ScriptedOmni) -> None:
    made(maker)
    made(maker)
    assert [path for _, path, _ in omni.seen].count("/v1/models") == 1


def test_another_model_on_the_server_is_noticed(maker: ImageMaker, omni: ScriptedOmni) -> None:
    made(maker)
    omni.model = "Qwen/Qwen-Image"
    omni.script(refuses(400, "Model mismatch: request specifies 'a' but server is running 'b'."), omni.honest)
    failed = made(maker)
    assert failed.items[0].error == "The vLLM server now serves another model. Try again."
    assert made(maker).items[0].result.parameters.steps == 50


def test_folders_of_the_serving_machine_are_told_to_it_alone(maker: ImageMaker, omni: ScriptedOmni) -> None:
    omni.model = "/srv/models/mine"
    job = made(maker)
    assert omni.generations()[0]["model"] == "/srv/models/mine"
    assert job.items[0].result.parameters.model == "mine"
    assert b"/srv/" not in Path(job.items[0].result.file_path).read_bytes()


def test_unknown_model_comes_with_a_warning(maker: ImageMaker, omni: ScriptedOmni) -> None:
    omni.model = "someone/something"
    assert planned(maker).notes == [
        "Model 'someone/something' is not in the known profiles. Using fallback defaults (steps=28, guidance=5.0). "
        "Generation may produce unexpected results."
    ]


def test_editing_uses_the_edits_endpoint(maker: ImageMaker, omni: ScriptedOmni) -> None:
    job = made(maker, inputs=Inputs([png()]))
    assert job.state is State.SUCCEEDED
    assert job.items[0].result.parameters.reference_images == 1
    assert job.plan.inputs == NO_INPUTS
    assert [path for _, path, _ in omni.seen][-1] == "/v1/images/edits"


def test_model_that_cannot_edit_says_so(maker: ImageMaker, omni: ScriptedOmni) -> None:
    omni.model = "Qwen/Qwen-Image"
    with pytest.raises(InvalidParameters, match=r"cannot edit images.*FLUX.2-klein-4B"):
        planned(maker, inputs=Inputs([png()]))


def test_folder_is_checked_before_anything_is_made(maker: ImageMaker, omni: ScriptedOmni, tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(OutputFailed):
        planned(maker)
    assert omni.generations() == []


def test_server_that_is_down_and_comes_up_later(maker: ImageMaker, omni: ScriptedOmni) -> None:
    url, maker.client._http.base_url = maker.client._http.base_url, "http://127.0.0.1:1"
    with pytest.raises(ServerUnreachable):
        planned(maker)
    maker.client._http.base_url = url
    assert made(maker).state is State.SUCCEEDED


def test_speed_is_learnt_without_the_first_generation(maker: ImageMaker) -> None:
    parameters = planned(maker, wishes=ImageOptions(width=1000 * 16, height=16, num_inference_steps=4)).images[0]
    book = SpeedBook()
    assert book.measured(parameters.model) is None
    book.learn(parameters.model, parameters.megapixel_steps, 100.0)
    assert book.measured(parameters.model) == (parameters.megapixel_steps / 100, 1)
    for seconds in (1.0, 2.0, 3.0):
        book.learn(parameters.model, parameters.megapixel_steps, seconds)
    assert book.measured(parameters.model) == (parameters.megapixel_steps / 2, 3)


def test_guess_grows_with_pixels_and_steps(maker: ImageMaker) -> None:
    profile = planned(maker).model.profile
    assert estimated_s(1.048576, 4, profile) == pytest.approx(1.5)
    assert estimated_s(2 * 1.048576, 8, profile) == pytest.approx(6.0)


def test_jobs_are_shared(maker: ImageMaker, jobs: Jobs) -> None:
    assert jobs.find(made(maker).id).kind == "batch"


def test_connection_that_breaks_over_the_list_of_models_stops_nothing(maker: ImageMaker, omni: ScriptedOmni) -> None:
    omni.script(hangs_up, path="/v1/models")
    job = made(maker)
    assert job.state is State.SUCCEEDED
    assert job.items[0].result.parameters.model == "unknown"


def test_image_that_cannot_be_saved_is_kept_as_a_preview(maker: ImageMaker, omni: ScriptedOmni, tmp_path: Path) -> None:
    def breaks_the_folder(request: Any, fields: Any) -> None:
        (tmp_path / "out").rmdir()
        (tmp_path / "out").write_bytes(b"")
        omni.honest(request, fields)

    omni.script(breaks_the_folder)
    job = made(maker, wishes=ImageOptions(width=64, height=32, seed=255))
    result = job.items[0].result
    assert job.state is State.SUCCEEDED
    assert result.file_path is None
    with Image.open(io.BytesIO(result.unsaved.data)) as image:
        assert (image.format, image.size) == ("JPEG", (64, 32))
    (note,) = result.notes
    assert note.startswith("No file was written: The output folder ")
    assert "a file of that name exists" in note
