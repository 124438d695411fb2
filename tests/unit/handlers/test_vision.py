"""Many images in one call, from the checks to the overall answer."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InvalidGeneration, PromptTooLong
from engine.interface import Completion, Control, Conversation
from handlers.vision.vision import short_reference
from handlers.yes_no import YES_NO
from tests.unit.fake_engine import texts_of
from tests.unit.handlers.tool_client import Client, Json, make_image, user
from tests.unit.handlers.vision_calls import MakeClient, analyse, decide


def test_relevant_images_alone_are_analysed_each_phase_in_one_batch(client: Client, paths: list[str]) -> None:
    decide(client, 0.9, 0.2, 0.75)
    for text in ("A red thing", "A blue thing", "Red and blue"):
        client.engine.enqueue(text)
    result = analyse(client, paths[:3])
    assert [len(batch) for batch in client.engine.batches] == [3, 3]
    assert result["results"] == [
        {
            "index": index,
            "image": paths[index],
            "relevant": relevant,
            "probability": probability,
            "analysis": analysis,
            "finish_reason": "stop" if analysis else None,
            "error": None,
        }
        for index, relevant, probability, analysis in (
            (0, True, 0.9, "A red thing"),
            (1, False, 0.2, None),
            (2, True, 0.75, "A blue thing"),
        )
    ]
    assert (result["answer"], result["relevant_count"], result["error"]) == ("Red and blue", 2, None)
    assert texts_of(client.engine.conversations[-1])[0][1] == "<image> <image> These are images 1, 3.\nWhat is it?"
    assert result["model"] == "fake-model"
    assert result["usage"]["image_tokens"] == (3 + 2 + 2) * 16
    assert result["timings"]["load_ms"] == 500


def test_the_question_of_relevance_is_a_choice_that_begins_like_the_analysis(client: Client, paths: list[str]) -> None:
    decide(client, 0.9)
    analyse(client, paths[:1], "What is it?")
    check, analysis = client.engine.conversations
    assert (check.choice, analysis.choice) == (YES_NO, ())
    assert check.enable_thinking is False
    assert texts_of(check) == [("user", "<image> Is this image relevant to the query 'What is it?'? Answer yes or no.")]
    assert texts_of(analysis) == [("user", "<image> What is it?")]
    assert check.messages[0].images[0].digest == analysis.messages[0].images[0].digest


def test_without_the_check_every_image_is_analysed(client: Client, paths: list[str]) -> None:
    result = analyse(client, paths[:3], check_relevance=False)
    assert [len(batch) for batch in client.engine.batches] == [4]
    assert not any(conversation.choice for conversation in client.engine.conversations)
    assert [(item["relevant"], item["probability"]) for item in result["results"]] == [(None, None)] * 3
    assert [item["analysis"] for item in result["results"]] == ["reply"] * 3
    assert (result["relevant_count"], result["answer"]) == (None, "reply")


def test_nothing_relevant_is_neither_analysed_nor_answered(client: Client, paths: list[str]) -> None:
    decide(client, 0.1, 0.2)
    result = analyse(client, paths[:2])
    assert len(client.engine.batches) == 1
    assert (result["answer"], result["error"], result["relevant_count"]) == (None, None, 0)


def test_the_analysis_of_the_only_relevant_image_is_the_answer(client: Client, paths: list[str]) -> None:
    decide(client, 0.1, 0.8)
    client.engine.enqueue("A green thing")
    result = analyse(client, paths[:2])
    assert [len(batch) for batch in client.engine.batches] == [2, 1]
    assert result["answer"] == result["results"][1]["analysis"] == "A green thing"


@pytest.mark.parametrize(("threshold", "relevant"), [(0, [True] * 3), (0.5, [False, True, True]), (1, [False] * 3)])
def test_threshold_says_what_is_relevant(
    client: Client, paths: list[str], threshold: float, relevant: list[bool]
) -> None:
    decide(client, 0.49, 0.5, 0.99)
    result = analyse(client, paths[:3], threshold=threshold)
    assert [item["relevant"] for item in result["results"]] == relevant


def test_metadata_goes_into_the_prompts_of_its_image(client: Client, paths: list[str]) -> None:
    decide(client, 0.9, 0.9, 0.9)
    analyse(client, paths[:3], "Where?", metadata=["taken in Oslo", None, {"city": "Rome", "year": 2024}])
    check, _, other_check, first, second, third, together = [texts_of(c)[0][1] for c in client.engine.conversations]
    assert check.startswith("<image> Context: taken in Oslo\n\nIs this image relevant")
    assert other_check.startswith("<image> Image metadata:\n- city: Rome\n- year: 2024\n\nIs this image relevant")
    assert first == "<image> Context: taken in Oslo\n\nWhere?"
    assert second == "<image> Where?"
    assert third == "<image> Image metadata:\n- city: Rome\n- year: 2024\n\nWhere?"
    assert together == "<image> <image> <image> Image 1: taken in Oslo\nImage 3: city: Rome, year: 2024\nWhere?"


def test_more_images_than_a_prompt_holds_are_answered_from_their_analyses(
    make_client: MakeClient, paths: list[str]
) -> None:
    client = make_client(VLLM_MAX_IMAGES_PER_PROMPT="2")
    for text in ("one", "two", "three", "all"):
        client.engine.enqueue(text)
    arguments = {"check_relevance": False, "overall_answer": True, "metadata": [None, "Oslo", None]}
    result = analyse(client, paths[:3], "How many?", **arguments)
    assert [len(batch) for batch in client.engine.batches] == [3, 1]
    (role, text) = texts_of(client.engine.conversations[-1])[0]
    assert role == "user"
    assert "3 images" in text
    assert "Image 1: one\nImage 2 (Oslo): two\nImage 3: three" in text
    assert text.endswith("How many?")
    assert not client.engine.conversations[-1].messages[0].images
    assert result["answer"] == "all"


def test_images_too_large_for_one_prompt_are_answered_from_their_analyses(client: Client, paths: list[str]) -> None:
    for text in ("one", "two"):
        client.engine.enqueue(text)
    client.engine.enqueue(raises=PromptTooLong(9000, 2048))
    client.engine.enqueue("all")
    result = analyse(client, paths[:2], check_relevance=False)
    assert (result["answer"], result["error"]) == ("all", None)


def test_long_analyses_are_shortened_until_their_prompt_fits(make_client: MakeClient, paths: list[str]) -> None:
    client = make_client(VLLM_MAX_IMAGES_PER_PROMPT="1")
    for _ in range(2):
        client.engine.enqueue("x" * 3000)
    client.engine.enqueue(raises=PromptTooLong(9000, 2048))
    client.engine.enqueue(raises=PromptTooLong(5000, 2048))
    client.engine.enqueue("all")
    result = analyse(client, paths[:2], check_relevance=False, overall_answer=True)
    whole, half, short = [texts_of(conversation)[0][1].count("x") for conversation in client.engine.conversations[2:]]
    assert whole == 6000 > half > short
    assert (result["answer"], result["error"]) == ("all", None)


def test_an_answer_that_fails_says_why_and_keeps_the_analyses(make_client: MakeClient, paths: list[str]) -> None:
    client = make_client(VLLM_MAX_IMAGES_PER_PROMPT="1")
    for _ in range(2):
        client.engine.enqueue("fine")
    client.engine.enqueue(raises=InvalidGeneration("not like this"))
    result = analyse(client, paths[:2], check_relevance=False, overall_answer=True)
    assert (result["answer"], result["error"]) == (None, "not like this")
    assert [item["analysis"] for item in result["results"]] == ["fine", "fine"]


def test_the_answer_can_be_left_out(client: Client, paths: list[str]) -> None:
    result = analyse(client, paths[:2], check_relevance=False, overall_answer=False)
    assert [len(batch) for batch in client.engine.batches] == [2]
    assert (result["answer"], result["error"]) == (None, None)


@pytest.mark.parametrize(("n_images", "answered"), [(2, True), (3, False)])
def test_without_the_check_an_answer_that_costs_time_comes_only_when_asked_for(
    make_client: MakeClient, paths: list[str], n_images: int, answered: bool
) -> None:
    client = make_client(VLLM_MAX_IMAGES_PER_PROMPT="2")
    result = analyse(client, paths[:n_images], check_relevance=False)
    assert (result["answer"] is not None) is answered
    assert len(client.engine.batches) == 1


def test_the_same_image_may_come_twice(client: Client, paths: list[str]) -> None:
    result = analyse(client, [paths[0], paths[0]], check_relevance=False)
    assert [item["index"] for item in result["results"]] == [0, 1]
    assert [item["analysis"] for item in result["results"]] == ["reply", "reply"]


def test_an_image_is_taken_in_each_form(client: Client, paths: list[str]) -> None:
    data_url = "data:image/png;base64," + base64.b64encode(make_image("red")).decode()
    result = analyse(client, [paths[0], Path(paths[0]).as_uri(), data_url], check_relevance=False, overall_answer=False)
    digests = {conversation.messages[0].images[0].digest for conversation in client.engine.conversations}
    assert len(digests) == 1
    assert [item["image"] for item in result["results"]] == [
        paths[0],
        Path(paths[0]).as_uri(),
        "data:image/png;base64,…",
    ]


def test_long_references_are_not_repeated_whole() -> None:
    assert len(short_reference("http://a/" + "b" * 5000)) < 1100
    assert short_reference("data:" + "x" * 5000).endswith(",…")
    assert len(short_reference("data:" + "x" * 5000)) < 200


@pytest.mark.parametrize("tool", ["analyze_images_with_query", "chat_completion_batch"])
def test_the_engine_gets_the_first_image_while_the_next_is_still_being_read(
    client: Client, paths: list[str], monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    really_read, really_generate = client.services.images.read_path, client.engine.generate
    begun = threading.Event()

    def read_path(path: str, longest_side: int | None = None) -> Any:
        assert path == paths[0] or begun.wait(30)
        return really_read(path, longest_side)

    def generate(conversations: Iterable[Conversation], control: Control) -> list[Completion]:
        taken = []
        for conversation in conversations:
            taken.append(conversation)
            begun.set()
        return really_generate(taken, control)

    monkeypatch.setattr(client.services.images, "read_path", read_path)
    monkeypatch.setattr(client.engine, "generate", generate)
    if tool == "analyze_images_with_query":
        arguments: Json = {"image_paths": paths, "query": "What is it?", "check_relevance": False}
    else:
        arguments = {"conversations": [[user([{"type": "image", "path": path}])] for path in paths]}
    assert [item.error for item in client.result(tool, arguments).results][:2] == [None, None]
