"""The server under `python -O`, which takes assertions away, keeps all its promises."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.server_process import Json, ServerProcess
from tests.fuzz.campaign import PROGRAM
from tests.fuzz.run import run
from tests.mcp_results import MODERN, check_result, envelope, text_of
from tests.scripted_omni import png

OPTIMIZED = {"PYTHONOPTIMIZE": "1"}


@pytest.fixture(scope="module")
def optimized(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, Path]]:
    """A server without assertions, and the one folder whose images it may read."""
    folder = tmp_path_factory.mktemp("allowed")
    (folder / "image.png").write_bytes(png())
    (folder.parent / "outside.png").write_bytes(png())
    os.symlink(folder.parent / "outside.png", folder / "link.png")
    with ServerProcess({**OPTIMIZED, "VLLM_ALLOWED_MEDIA_DIRS": str(folder)}, program=PROGRAM) as server:
        yield server, folder


def test_messages_get_what_the_protocol_owes_them() -> None:
    report = run(1_000, seed=77, environment=OPTIMIZED)
    assert report.finding is None, f"\n{report.finding}"


def test_both_eras_are_served(optimized: tuple[ServerProcess, Path]) -> None:
    server, _ = optimized
    server.initialize("2025-06-18")
    check_result("tools/list", "2025-06-18", server.request("tools/list"))
    check_result("tools/call", MODERN, server.call("model_info", meta=envelope()))


@pytest.mark.parametrize(
    "name",
    ["../outside.png", "link.png", "/etc/passwd", "/proc/self/environ", "http://127.0.0.1:9/", "file:///etc/passwd"],
)
def test_what_is_confined_stays_confined(optimized: tuple[ServerProcess, Path], name: str) -> None:
    server, folder = optimized
    reference = name if name.startswith(("/", "http", "file")) else str(folder / name)
    assert not _checked(server, str(folder / "image.png"))["result"]["isError"]
    answer = _checked(server, reference)
    assert answer["result"]["isError"]
    assert text_of(answer).startswith("arguments.image_path: ")


def _checked(server: ServerProcess, reference: str) -> Json:
    return server.call("check_image_relevance", {"image_path": reference, "query": "red"})
