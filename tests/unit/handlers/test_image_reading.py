"""Decoded images count in the budget while their call runs, whichever tool reads them, and each of them once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from engine.errors import GenerationCancelled
from handlers.image_reading import CallImages, ImageData, OrderedPool
from media.call_limits import CallLimits
from media.errors import MediaTooLarge
from media.image import BYTES_PER_PIXEL, DecodedImage
from sandbox.budget import ByteBudget
from tests.unit.handlers.tool_client import Client, Json, user
from tests.unit.media.sample_media import audio_file

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
def small_client(make_client: Callable[..., Client]) -> Client:
    """A client with a budget for one image."""
    return make_client(VLLM_MAX_HELD_BYTES=str(BUDGET))


def question(path: str) -> list[Json]:
    """A conversation about an image."""
    return [user([{"type": "image", "path": path}, {"type": "text", "text": "What is it?"}])]


def enqueue(client: Client, n_answers: int) -> None:
    """Has the engine answer so often."""
    for _ in range(n_answers):
        client.engine.enqueue("A")


def run(client: Client, tool: str, arguments: Json) -> tuple[Any, int]:
    """The result of a call, and what it held at its end; then the call is over."""
    call = client.make_call(tool, arguments)
    result = client.toolbox.run(call)
    held = client.services.budget.held_bytes
    call.release()
    assert client.services.budget.held_bytes == 0
    return result, held


def test_a_batch_is_answered_as_far_as_there_is_room_for_its_images(small_client: Client, paths: list[str]) -> None:
    enqueue(small_client, 2)
    conversations = [*map(question, paths), [user("Hi")]]
    result, held = run(small_client, "chat_completion_batch", {"conversations": conversations})
    assert held == IMAGE_BYTES
    errors = [item.error for item in result["structuredContent"].results]
    assert errors.count(None) == 2
    refused = [error for error in errors if error is not None]
    assert all("VLLM_MAX_HELD_BYTES" in error and "content[0]" in error for error in refused)
    assert errors[3] is None


def test_an_image_that_is_named_many_times_counts_once(small_client: Client, paths: list[str], tmp_path: Path) -> None:
    copy = tmp_path / "copy.png"
    copy.write_bytes(Path(paths[0]).read_bytes())
    enqueue(small_client, 20)
    conversations = [question(path) for path in (paths[0], str(copy)) * 10]
    result, held = run(small_client, "chat_completion_batch", {"conversations": conversations})
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
    tool: str, arguments_of: Callable[[list[str]], Json], small_client: Client, paths: list[str]
) -> None:
    enqueue(small_client, 1)
    result, held = run(small_client, tool, arguments_of(paths))
    assert "VLLM_MAX_HELD_BYTES" in result["content"][0]["text"]
    assert held == IMAGE_BYTES


def test_images_of_two_calls_share_the_budget(small_client: Client, paths: list[str]) -> None:
    enqueue(small_client, 2)
    first = small_client.make_call("chat_completion", {"messages": question(paths[0])})
    assert not small_client.toolbox.run(first)["isError"]
    assert "busy" in small_client.error("chat_completion", {"messages": question(paths[1])})
    first.release()
    assert not small_client.run("chat_completion", {"messages": question(paths[1])})["isError"]


def test_the_image_of_a_video_counts_too(make_client: Callable[..., Client], paths: list[str], tmp_path: Path) -> None:
    client = make_client(VLLM_MAX_HELD_BYTES=str(BUDGET), OMNI_VIDEO_URL="http://127.0.0.1:9")
    voice = tmp_path / "voice.wav"
    voice.write_bytes(audio_file(seconds=1))
    with client.services.budget.hold(BUDGET - IMAGE_BYTES + 1):
        error = client.error("process_image_to_video", {"image_path": paths[0], "audio_path": str(voice)})
    assert "arguments.image_path" in error
    assert "VLLM_MAX_HELD_BYTES" in error


class Reader:
    """Counts what it reads; references with the same first letter are the same image."""

    def __init__(self) -> None:
        self.n_reads = 0

    def read(self, reference: str, limits: CallLimits) -> DecodedImage:
        """A new image each time."""
        self.n_reads += 1
        return DecodedImage(Image.new("RGB", (10, 10)), reference[0], 400)

    def read_base64(self, data: str, mime_type: str | None, limits: CallLimits) -> DecodedImage:
        """A new image each time."""
        return self.read(data, limits)


def images_of_a_call(client: Client, reader: Reader, budget: ByteBudget) -> CallImages:
    """The images of a call that has not run yet."""
    return CallImages(reader, budget.hold(), client.make_call("model_info", {}))  # type: ignore[arg-type]


def test_reader_of_a_call_reads_each_reference_once(client: Client) -> None:
    reader, budget = Reader(), ByteBudget(1_000)
    images = images_of_a_call(client, reader, budget)
    first = images.read("a1")
    assert images.read("a1") is images.read("a2") is first
    assert images.read("b1") is not first
    assert reader.n_reads == 3
    assert budget.held_bytes == 800
    with pytest.raises(MediaTooLarge, match="VLLM_MAX_HELD_BYTES"):
        images.read("c1")
    assert budget.held_bytes == 800


def test_a_path_and_data_of_the_same_text_are_two_sources(client: Client) -> None:
    reader = Reader()
    images = images_of_a_call(client, reader, ByteBudget(10_000))
    images.read("a")
    images.read(ImageData("a"))
    images.read(ImageData("a", "image/png"))
    assert reader.n_reads == 3


def test_cancelling_wakes_the_call_that_waits_for_an_image(client: Client) -> None:
    call, gate = client.make_call("model_info", {}), threading.Event()
    with OrderedPool(lambda index: gate.wait(60), 1, call, False, downloads=True) as results:
        threading.Timer(0.05, call.cancellation.set).start()
        with pytest.raises(GenerationCancelled):
            next(iter(results))
        assert not gate.is_set()
        gate.set()
