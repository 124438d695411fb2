"""InternVL and Qwen-VL, which need torchvision, through the real server: tiny and random, so only forms are checked."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from tests.e2e import torchvision_wheel
from tests.e2e.images import as_data_url, drawn
from tests.e2e.server_process import Json, ServerProcess

pytestmark = pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed here")

COLOURS = ("red", "green", "blue", "yellow")
WIDE = drawn("black", "circle", "white").resize((240, 80))


@pytest.fixture(scope="module", params=["internvl", "qwen2-vl"])
def server(request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    settings = {
        "VLLM_MODEL_NAME": torchvision_wheel.folder_of(request.param),
        "VLLM_CPU_KVCACHE_SPACE": "0.125",
        "VLLM_DEFAULT_MAX_TOKENS": "8",
        **torchvision_wheel.environment(),
    }
    with ServerProcess(settings) as process:
        process.initialize()
        yield process


def urls() -> list[str]:
    """An image of each colour, and one that is three times as wide as high."""
    return [*(as_data_url(drawn("white", "circle", colour)) for colour in COLOURS), as_data_url(WIDE)]


def probability(result: Json) -> float:
    value: float = result["probability"]
    assert 0 <= value <= 1
    assert result["relevant"] is (value >= 0.5)
    return value


def test_one_image_is_analysed(server: ServerProcess) -> None:
    red, blue = (
        server.result("analyze_single_image", {"image_path": url, "query": "What is it?"})
        for url in (urls()[0], urls()[2])
    )
    assert min(red["usage"]["image_tokens"], blue["usage"]["image_tokens"]) > 0
    assert red["usage"]["completion_tokens"] > 0
    again = server.result("analyze_single_image", {"image_path": urls()[0], "query": "What is it?"})
    assert again["text"] == red["text"]


def test_relevance_depends_on_the_image(server: ServerProcess) -> None:
    checks = [server.result("check_image_relevance", {"image_path": url, "query": "red circle"}) for url in urls()]
    assert len({probability(check) for check in checks}) > 1


def test_several_images_are_checked_analysed_and_answered_together(server: ServerProcess) -> None:
    arguments = {"image_paths": urls()[:4], "query": "What is it?", "threshold": 0}
    result = server.result("analyze_images_with_query", arguments)
    assert [item["error"] for item in result["results"]] == [None] * 4
    assert [item["relevant"] for item in result["results"]] == [True] * 4
    assert all(item["analysis"] is not None for item in result["results"])
    assert (result["error"], result["relevant_count"]) == (None, 4)
    assert result["answer"] is not None
    alone = [
        probability(server.result("check_image_relevance", {"image_path": url, "query": "What is it?"}))
        for url in urls()[:4]
    ]
    assert [item["probability"] for item in result["results"]] == pytest.approx(alone, abs=0.05)


def test_images_of_other_shapes_are_taken(server: ServerProcess) -> None:
    arguments = {"image_paths": urls(), "query": "What is it?", "check_relevance": False}
    result = server.result("analyze_images_with_query", arguments)
    assert [item["error"] for item in result["results"]] == [None] * 5
    assert result["usage"]["image_tokens"] > 0
