"""Arguments of the vision tools, the tools for one image, and the state of the model."""

from __future__ import annotations

import jsonschema
import pytest

from engine.interface import FinishReason
from handlers.vision.prompts import instruction
from handlers.yes_no import YES_NO
from tests.unit.fake_engine import texts_of
from tests.unit.handlers.tool_client import Client, Json
from tests.unit.handlers.vision_calls import OUTPUT_SCHEMAS, MakeClient, analyse, decide, structured


def test_sampling_reaches_the_analyses_and_defaults_to_greedy(make_client: MakeClient, paths: list[str]) -> None:
    client = make_client(VLLM_DEFAULT_MAX_TOKENS="9", VLLM_DEFAULT_TOP_P="0.5", VLLM_DEFAULT_TEMPERATURE="1.5")
    analyse(client, paths[:1], check_relevance=False)
    analyse(client, paths[:1], check_relevance=False, temperature=0.4, max_tokens=3, top_p=0.9, seed=5)
    first, second = (conversation.sampling for conversation in client.engine.conversations)
    assert (first.temperature, first.max_tokens, first.top_p, first.seed) == (0.0, 9, 0.5, None)
    assert (second.temperature, second.max_tokens, second.top_p, second.seed) == (0.4, 3, 0.9, 5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"image_paths": []}, "arguments.image_paths: expected array of length >= 1"),
        ({"image_paths": ["/a.png"] * 65}, "arguments.image_paths: expected array of length <= 64"),
        ({"image_paths": "/a.png"}, "arguments.image_paths: expected array, got str"),
        ({"image_paths": [""]}, "arguments.image_paths[0]: expected str of length >= 1"),
        ({"image_paths": [5]}, "arguments.image_paths[0]: expected str, got int"),
        ({"query": ""}, "arguments.query: expected str of length >= 1"),
        ({"query": " \n"}, "arguments.query: it is blank"),
        ({"query": "x" * 20_001}, "arguments.query: expected str of length <= 20000"),
        ({"check_relevance": "yes"}, "arguments.check_relevance: expected bool, got str"),
        ({"metadata": ["a", "b"]}, "arguments.metadata: 2 entries for 1 images; give one entry per"),
        ({"metadata": [5]}, "arguments.metadata[0]: expected str | object | null, got int"),
        ({"threshold": 1.1}, "arguments.threshold: expected float <= 1"),
        ({"timeout_s": 0}, "arguments.timeout_s: expected float > 0"),
        ({"max_tokens": 0}, "arguments.max_tokens: expected int >= 1"),
        ({"images": ["/a.png"]}, "arguments.images: there is no such argument."),
    ],
)
def test_wrong_argument_is_named_and_nothing_is_loaded(client: Client, arguments: Json, words: str) -> None:
    given = {"image_paths": ["/a.png"], "query": "What?", **arguments}
    assert client.error("analyze_images_with_query", given).startswith(words)
    assert client.engine.n_loads == 0


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("What is it?", "What is it?"),
        ("Describe the image.", "Describe the image."),
        ("Que voit-on ?", "Que voit-on ?"),
        ("这是什么？", "这是什么？"),
        (
            "describe everything that you can see in this image",
            "describe everything that you can see in this image",
        ),
        (" red circle ", "Query: red circle\nWhat do you see in this image?"),
        ("an invoice from 2024", "Query: an invoice from 2024\nWhat do you see in this image?"),
    ],
)
def test_keywords_alone_become_an_instruction(query: str, asked: str) -> None:
    assert instruction(query) == asked


def test_keywords_about_several_images_ask_about_all_of_them(client: Client, paths: list[str]) -> None:
    analyse(client, paths[:2], "red circle", check_relevance=False)
    asked = "<image> <image> Query: red circle\nWhat do you see in these images?"
    assert texts_of(client.engine.conversations[-1]) == [("user", asked)]


# One image


def test_relevance_of_one_image(client: Client, paths: list[str]) -> None:
    decide(client, 0.8)
    result = client.run("check_image_relevance", {"image_path": paths[0], "query": "it's red", "metadata": "Oslo"})
    relevance = structured(result)
    jsonschema.Draft202012Validator(OUTPUT_SCHEMAS["check_image_relevance"]).validate(relevance)
    assert {name: relevance[name] for name in ("relevant", "probability", "threshold", "image", "model")} == {
        "relevant": True,
        "probability": 0.8,
        "threshold": 0.5,
        "image": paths[0],
        "model": "fake-model",
    }
    (conversation,) = client.engine.conversations
    assert texts_of(conversation) == [
        ("user", '<image> Context: Oslo\n\nIs this image relevant to the query "it\'s red"? Answer yes or no.')
    ]
    assert (conversation.choice, conversation.sampling.temperature) == (YES_NO, 0.0)


def test_threshold_of_one_image(client: Client, paths: list[str]) -> None:
    decide(client, 0.8)
    assert not client.result("check_image_relevance", {"image_path": paths[0], "query": "x", "threshold": 0.9}).relevant


@pytest.mark.parametrize("timed_out", [True, False])
def test_a_check_that_fails_is_an_error(client: Client, paths: list[str], timed_out: bool) -> None:
    client.engine.enqueue("yes", finish_reason=FinishReason.TIMEOUT if timed_out else FinishReason.STOP)
    text = client.error("check_image_relevance", {"image_path": paths[0], "query": "red"})
    assert ("time was up" if timed_out else "no probability") in text


def test_one_image_is_analysed_like_a_chat(client: Client, paths: list[str]) -> None:
    client.engine.enqueue("A red thing")
    result = client.run("analyze_single_image", {"image_path": paths[0], "query": "What is it?", "seed": 3})
    assert result["content"] == [{"type": "text", "text": "A red thing"}]
    chat = structured(result)
    jsonschema.Draft202012Validator(OUTPUT_SCHEMAS["analyze_single_image"]).validate(chat)
    assert (chat["text"], chat["finish_reason"], chat["seed"]) == ("A red thing", "stop", 3)
    assert chat["usage"]["image_tokens"] == 16
    assert chat["session_id"] is None
    assert texts_of(client.engine.conversations[0]) == [("user", "<image> What is it?")]


def test_one_image_streams_its_text(client: Client, paths: list[str]) -> None:
    client.engine.enqueue(tokens=["A", " red", " thing"])
    client.result("analyze_single_image", {"image_path": paths[0], "query": "What?"}, progress_token="p")
    told = [message["params"]["message"] for message in client.sent if message["params"].get("total")]
    assert "".join(told) == "A red thing"


@pytest.mark.parametrize("tool", ["check_image_relevance", "analyze_single_image"])
@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("/no/such.png", "arguments.image_path: There is no file"),
        ("/proc/self/environ", "arguments.image_path: The path "),
        ("http://127.0.0.1:1/a.png", "arguments.image_path: The host "),
        ("data:image/png;base64,abcd", "arguments.image_path: This is not an image"),
        ("", "arguments.image_path: expected str of length >= 1"),
    ],
)
def test_one_image_that_cannot_be_read_is_an_error(client: Client, tool: str, reference: str, words: str) -> None:
    assert client.error(tool, {"image_path": reference, "query": "What?"}).startswith(words)
    assert client.engine.n_loads == 0


# The model


def test_model_status_tells_without_loading(client: Client) -> None:
    result = client.run("get_model_status")
    status = structured(result)
    jsonschema.Draft202012Validator(OUTPUT_SCHEMAS["get_model_status"]).validate(status)
    assert (status["status"], status["loaded"], status["model_name"]) == ("unloaded", False, "fake-model")
    assert status["memory_used_bytes"] > 1 << 20
    assert (status["active_references"], status["device"]) == (0, None)
    assert client.engine.n_loads == 0


def test_model_status_after_a_load(client: Client) -> None:
    client.chat(session_id="s")
    status = client.result("get_model_status")
    assert (status.status, status.loaded, status.device, status.active_references) == ("loaded", True, "cpu", 1)
