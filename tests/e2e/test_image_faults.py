"""The real server in front of a vLLM-Omni that misbehaves: one clear error each, and nothing half-written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.server_process import ServerProcess
from tests.scripted_omni import (
    Route,
    ScriptedOmni,
    answers,
    drips,
    hangs_up,
    images_json,
    never_ends,
    png,
    refuses,
)

SMALL = {"prompt": "a", "width": 64, "height": 64}


@pytest.fixture(scope="module")
def omni() -> Iterator[ScriptedOmni]:
    with ScriptedOmni() as server:
        yield server


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def studio(omni: ScriptedOmni, out: Path) -> Iterator[ServerProcess]:
    """One server for all tests here, each of which must leave it serving."""
    settings = {"OMNI_URL": omni.url, "OMNI_OUTPUT_DIR": str(out), "OMNI_TIMEOUT": "2"}
    with ServerProcess(settings) as process:
        process.initialize()
        yield process


@pytest.mark.parametrize(
    ("route", "text"),
    [
        (answers(b"<html><body>nginx</body></html>", Content_Type="text/html"), "Check OMNI_URL"),
        (answers(b'{"data": []}'), "has no image"),
        (answers(b'{"data": [{"b64_json": "%%%"}]}'), "Check OMNI_URL"),
        (answers(images_json(b"no image")), "not a complete image"),
        (answers(images_json(png()[:70])), "not a complete image"),
        (never_ends, "longer than"),
        (drips, "did not respond within 2 s"),
        (hangs_up, "was lost"),
        (refuses(429, "busy"), "HTTP 429"),
        (refuses(500, "boom"), "HTTP 500"),
        (refuses(503, "loading"), "HTTP 503"),
        (answers(b"", 301, Location="http://169.254.169.254/"), "redirects"),
    ],
    ids=[
        "HTML", "empty data", "wrong base64", "no image", "cut off image", "body without end", "slow drip", "reset",
        "429", "500", "503", "redirect",
    ],
)  # fmt: skip
@pytest.mark.parametrize("more", [{}, {"best_of": 2}], ids=["one", "best_of"])
def test_one_clear_error_and_nothing_half_written(
    studio: ServerProcess, omni: ScriptedOmni, out: Path, route: Route, text: str, more: dict[str, int]
) -> None:
    before = sorted(os.listdir(out))

    def and_close(request: object, fields: object) -> None:
        request.close_connection = True  # type: ignore[attr-defined]
        route(request, fields)  # type: ignore[arg-type]

    omni.script(and_close)
    result = studio.call("generate_image", {**SMALL, **more})["result"]
    assert result["isError"]
    (block,) = result["content"]
    assert text in block["text"]
    assert len(block["text"]) < 400
    assert sorted(os.listdir(out)) == before
    omni.scripts.clear()
    assert not studio.call("generate_image", SMALL)["result"]["isError"]
    assert len(os.listdir(out)) == len(before) + 1
