"""`list_images` and `like`: the real server, restarted, in front of a real vLLM-Omni on the CPU."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.images import drawn, png
from tests.e2e.media_answers import error, facts
from tests.e2e.omni_server import OmniServer
from tests.e2e.server_process import ServerProcess

Json = dict[str, Any]
SMALL: Json = {"width": 64, "height": 64, "num_inference_steps": 2, "guidance_scale": 1.0}
MAX_GROWTH_BYTES = 30 << 20


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def start(omni_image_server: OmniServer, out: Path) -> Callable[[], ServerProcess]:
    """Starts a server, the first or a later one, that saves images in the same folder."""
    return lambda: ServerProcess({"OMNI_URL": omni_image_server.url, "OMNI_OUTPUT_DIR": str(out)})


def test_images_are_listed_and_made_again_after_a_restart(start: Callable[[], ServerProcess]) -> None:
    with start() as server:
        server.initialize()
        told = [facts(server, "generate_image", {"prompt": f"image {n}", **SMALL}) for n in range(2)]
        batch = facts(server, "batch_generate", {"prompts": ["a cat", "a dog"], "seeds": [3, 4], **SMALL})
        by_id = facts(server, "generate_image", {"like": told[0]["job_id"]})
        by_index = facts(server, "generate_image", {"like": f"{batch['batch_id']}#1"})
        paths = [each["file_path"] for each in told]
        assert Path(by_id["file_path"]).read_bytes() == Path(paths[0]).read_bytes()
        assert Path(by_index["file_path"]).read_bytes() == Path(batch["results"][1]["file_path"]).read_bytes()
    with start() as server:
        server.initialize()
        first = server.result("list_images", {"limit": 4})
        rest = server.result("list_images", {"limit": 4, "cursor": first["next_cursor"]})
        assert rest["next_cursor"] is None
        listed = {image["file_path"]: image for image in [*first["images"], *rest["images"]]}
        assert len(listed) == 6
        assert [listed[path]["seed"] for path in paths] == [each["parameters_used"]["seed"] for each in told]
        assert {image["resolution"] for image in listed.values()} == {"64x64"}
        (found,) = server.result("list_images", {"query": "IMAGE 1"})["images"]
        assert found["file_path"] == paths[1]
        again = facts(server, "generate_image", {"like": paths[1]})
        assert again["parameters_used"] == told[1]["parameters_used"]
        assert Path(again["file_path"]).read_bytes() == Path(paths[1]).read_bytes()
        other = facts(server, "generate_image", {"like": paths[1], "seed": found["seed"] + 1})
        assert other["parameters_used"] == {**told[1]["parameters_used"], "seed": found["seed"] + 1}
        assert Path(other["file_path"]).read_bytes() != Path(paths[1]).read_bytes()
        assert "list_images has their paths" in error(server, "generate_image", {"like": told[0]["job_id"]})


def test_edit_is_made_again_from_the_inputs_that_its_file_names(
    start: Callable[[], ServerProcess], tmp_path: Path
) -> None:
    (tmp_path / "in.png").write_bytes(png(drawn("blue", "circle", "red")))
    (tmp_path / "mask.png").write_bytes(png(drawn("black", "square", "white")))
    inputs = {"image_paths": [str(tmp_path / "in.png")], "mask_path": str(tmp_path / "mask.png"), "strength": 0.75}
    with start() as server:
        server.initialize()
        edited = facts(server, "generate_image", {"prompt": "make it green", **inputs, **SMALL})
    with start() as server:
        server.initialize()
        again = facts(server, "generate_image", {"like": edited["file_path"]})
        other = facts(server, "generate_image", {"like": edited["file_path"], "prompt": "make it white"})
    assert Path(again["file_path"]).read_bytes() == Path(edited["file_path"]).read_bytes()
    assert other["parameters_used"] == {**edited["parameters_used"], "prompt": "make it white"}
    assert Path(other["file_path"]).read_bytes() != Path(edited["file_path"]).read_bytes()


def test_thousands_of_files_are_listed_at_once_in_little_memory(
    start: Callable[[], ServerProcess], out: Path, tmp_path: Path
) -> None:
    """Most of them are no images of this server; a FIFO and links are among them."""
    with start() as server:
        server.initialize()
        mine = facts(server, "generate_image", {"prompt": "mine", **SMALL})["file_path"]
        (tmp_path / "foreign.png").write_bytes(png(drawn()))
        for number in range(5_000):
            os.link(mine if number % 10 == 0 else tmp_path / "foreign.png", out / f"{number}.png")
        os.mkfifo(out / "fifo.png")
        (out / "link.png").symlink_to(shutil.copy(mine, tmp_path / "outside.png"))
        server.result("list_images")
        before = server.resident_bytes()
        n_images, n_pages, cursor = 0, 0, None
        while n_pages == 0 or cursor is not None:
            page = server.result("list_images", {"limit": 100, **({"cursor": cursor} if cursor else {})})
            n_images, n_pages, cursor = n_images + len(page["images"]), n_pages + 1, page["next_cursor"]
        assert n_images == 501
        assert n_pages < 10
        assert server.resident_bytes() - before < MAX_GROWTH_BYTES
