"""Decoded images count in the budget while their call runs, whichever tool reads them, and each of them once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from handlers.held_images import HeldImages
from media.errors import MediaTooLarge
from media.image import BYTES_PER_PIXEL, DecodedImage
from sandbox.budget import ByteBudget
from tests.unit.handlers.conftest import Desk, Json, user
from tests.unit.media.recordings import recording

SIDE = 1_500
IMAGE_BYTES = SIDE * SIDE * BYTES_PER_PIXEL
BUDGET = 16 << 20
"""Room for one image, not for two."""


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Three images of 9 MB each, decoded."""
    made = []
    for number, color in enumerate(("red", "green", "blue")):
        made.append(str(tmp_path / f"{number}.png"))
        Image.new("RGB", (SIDE, SIDE), color).save(made[-1])
    return made


@pytest.fixture
def small_desk(make_desk: Callable[..., Desk]) -> Desk:
    """A desk with a budget for one image."""
    return make_desk(VLLM_MAX_HELD_BYTES=str(BUDGET))


def question(path: str) -> list[Json]:
    """A conversation about an image."""
    return [user([{"type": "image", "path": path}, {"type": "text", "text": "What is it?"}])]


def enqueue(desk: Desk, n_answers: int) -> None:
    """Has the engine answer so often."""
    for _ in range(n_answers):
        desk.engine.enqueue("A")


def run(desk: Desk, tool: str, arguments: Json) -> tuple[Any, int]:
    """The result of a call, and what it held at its end; then the call is over."""
    call = desk.make_call(tool, arguments)
    result = desk.toolbox.run(call)
    held = desk.services.budget.held_bytes
    call.end()
    assert desk.services.budget.held_bytes == 0
    return result, held


def test_a_batch_is_answered_as_far_as_there_is_room_for_its_images(small_desk: Desk, paths: list[str]) -> None:
    enqueue(small_desk, 2)
    conversations = [*map(question, paths), [user("Hi")]]
    result, held = run(small_desk, "chat_completion_batch", {"conversations": conversations})
    assert held == IMAGE_BYTES
    errors = [item.error for item in result["structuredContent"].results]
    assert errors.count(None) == 2
    refused = [error for error in errors if error is not None]
    assert all("VLLM_MAX_HELD_BYTES" in error and "content[0]" in error for error in refused)
    assert errors[3] is None


def test_an_image_that_is_named_many_times_counts_once(small_desk: Desk, paths: list[str], tmp_path: Path) -> None:
    copy = tmp_path / "copy.png"
    copy.write_bytes(Path(paths[0]).read_bytes())
    enqueue(small_desk, 20)
    conversations = [question(path) for path in (paths[0], str(copy)) * 10]
    result, held = run(small_desk, "chat_completion_batch", {"conversations": conversations})
    assert [item.error for item in result["structuredContent"].results] == [None] * 20
    assert held == IMAGE_BYTES


@pytest.mark.parametrize(
    ("tool", "arguments_of"),
    [
        pytest.param(
            "chat_completion",
            lambda paths: {"messages": [user([{"type": "image", "path": path} for path in paths])]},
            id="chat_completion",
        ),
        pytest.param(
            "analyze_images_with_query",
            lambda paths: {"image_paths": paths, "query": "What?", "check_relevance": False, "overall_answer": False},
            id="analyze_images_with_query",
        ),
    ],
)
def test_other_tools_say_for_which_image_there_is_no_room(
    tool: str, arguments_of: Callable[[list[str]], Json], small_desk: Desk, paths: list[str]
) -> None:
    enqueue(small_desk, 1)
    result, held = run(small_desk, tool, arguments_of(paths))
    assert "VLLM_MAX_HELD_BYTES" in result["content"][0]["text"]
    assert held == IMAGE_BYTES


def test_images_of_two_calls_share_the_budget(small_desk: Desk, paths: list[str]) -> None:
    enqueue(small_desk, 2)
    first = small_desk.make_call("chat_completion", {"messages": question(paths[0])})
    assert not small_desk.toolbox.run(first)["isError"]
    assert "busy" in small_desk.error("chat_completion", {"messages": question(paths[1])})
    first.end()
    assert not small_desk.run("chat_completion", {"messages": question(paths[1])})["isError"]


def test_the_image_of_a_video_counts_too(make_desk: Callable[..., Desk], paths: list[str], tmp_path: Path) -> None:
    desk = make_desk(VLLM_MAX_HELD_BYTES=str(BUDGET), OMNI_VIDEO_URL="http://127.0.0.1:9")
    voice = tmp_path / "voice.wav"
    voice.write_bytes(recording(seconds=1))
    with desk.services.budget.hold(BUDGET - IMAGE_BYTES + 1):
        error = desk.error("process_image_to_video", {"image_path": paths[0], "audio_path": str(voice)})
    assert "arguments.image_path" in error
    assert "VLLM_MAX_HELD_BYTES" in error


class Reader:
    """Counts what it reads; every reference that begins alike is the same image."""

    def __init__(self) -> None:
        self.read_references: list[str] = []

    def read(self, reference: str, longest_side: int | None = None) -> DecodedImage:
        """A new image each time."""
        self.read_references.append(reference)
        return DecodedImage(Image.new("RGB", (10, 10)), reference[0], 400)

    read_path = read_url = read


def test_reader_of_a_call_reads_each_reference_once() -> None:
    reader, budget = Reader(), ByteBudget(1_000)
    images = HeldImages(reader, budget.hold())  # type: ignore[arg-type]
    first = images.read("a1")
    assert images.read("a1") is images.read("a2") is first
    assert images.read("b1") is not first
    assert reader.read_references == ["a1", "a2", "b1"]
    assert budget.held_bytes == 800
    with pytest.raises(MediaTooLarge, match="VLLM_MAX_HELD_BYTES"):
        images.read("c1")
    assert budget.held_bytes == 800


def test_a_path_and_a_url_of_the_same_text_are_two_references() -> None:
    reader = Reader()
    images = HeldImages(reader, ByteBudget(10_000).hold())  # type: ignore[arg-type]
    images.read("a")
    images.read("a", longest_side=100)
    images.read_path("a")
    assert len(reader.read_references) == 3
