"""The vision tools over a fake engine: what the model is asked, and what callers get to see of its answers."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from engine.errors import EngineDied, GenerationFailed, InvalidGeneration, PromptTooLong
from engine.interface import Completion, Control, Conversation, FinishReason
from handlers.catalog import TOOLS
from handlers.vision import shown_reference
from handlers.vision_prompts import YES_NO, instruction
from mcp_protocol.jsonrpc import encode
from tests.unit.fake_engine import texts_of
from tests.unit.handlers.conftest import Desk, Json, picture, user

MakeDesk = Callable[..., Desk]
OUTPUT_SCHEMAS: dict[str, Json] = {tool.name: tool.listing().get("outputSchema", {}) for tool in TOOLS}
COLOURS = ("red", "lime", "blue", "yellow", "black", "white")


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """Six pictures of different colours."""
    for colour in COLOURS:
        (tmp_path / f"{colour}.png").write_bytes(picture(colour))
    return [str(tmp_path / f"{colour}.png") for colour in COLOURS]


def structured(result: Json) -> Any:
    """The `structuredContent` as a client reads it."""
    return json.loads(encode(result["structuredContent"]))


def analyse(desk: Desk, image_paths: list[str], query: str = "What is it?", **arguments: Any) -> Any:
    """The result of a call that succeeds, checked against its schema."""
    result = desk.run("analyze_images_with_query", {"image_paths": image_paths, "query": query, **arguments})
    assert not result["isError"], result
    analysed = structured(result)
    jsonschema.Draft202012Validator(OUTPUT_SCHEMAS["analyze_images_with_query"]).validate(analysed)
    assert json.loads(result["content"][0]["text"]) == analysed
    return analysed


def decide(desk: Desk, *probabilities: float) -> None:
    """Queues the outcomes of relevance checks, as the probability of yes."""
    for probability in probabilities:
        desk.engine.enqueue("yes" if probability > 0.5 else "no", probabilities=(probability, 1 - probability))


# Many pictures


def test_relevant_pictures_alone_are_analysed_each_phase_in_one_batch(desk: Desk, paths: list[str]) -> None:
    decide(desk, 0.9, 0.2, 0.75)
    for text in ("A red thing", "A blue thing", "Red and blue"):
        desk.engine.enqueue(text)
    result = analyse(desk, paths[:3])
    assert [len(batch) for batch in desk.engine.batches] == [3, 3]
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
    assert texts_of(desk.engine.conversations[-1])[0][1] == "<image> <image> These are images 1, 3.\nWhat is it?"
    assert result["model"] == "fake-model"
    assert result["usage"]["image_tokens"] == (3 + 2 + 2) * 16
    assert result["timings"]["load_ms"] == 500


def test_the_question_of_relevance_is_a_choice_that_begins_like_the_analysis(desk: Desk, paths: list[str]) -> None:
    decide(desk, 0.9)
    analyse(desk, paths[:1], "What is it?")
    check, analysis = desk.engine.conversations
    assert (check.choice, analysis.choice) == (YES_NO, ())
    assert check.enable_thinking is False
    assert texts_of(check) == [("user", "<image> Is this image relevant to the query 'What is it?'? Answer yes or no.")]
    assert texts_of(analysis) == [("user", "<image> What is it?")]
    assert check.messages[0].images[0].digest == analysis.messages[0].images[0].digest


def test_without_the_check_every_picture_is_analysed(desk: Desk, paths: list[str]) -> None:
    result = analyse(desk, paths[:3], check_relevance=False)
    assert [len(batch) for batch in desk.engine.batches] == [4]
    assert not any(conversation.choice for conversation in desk.engine.conversations)
    assert [(item["relevant"], item["probability"]) for item in result["results"]] == [(None, None)] * 3
    assert [item["analysis"] for item in result["results"]] == ["reply"] * 3
    assert (result["relevant_count"], result["answer"]) == (None, "reply")


def test_nothing_relevant_is_neither_analysed_nor_answered(desk: Desk, paths: list[str]) -> None:
    decide(desk, 0.1, 0.2)
    result = analyse(desk, paths[:2])
    assert len(desk.engine.batches) == 1
    assert (result["answer"], result["error"], result["relevant_count"]) == (None, None, 0)


def test_the_analysis_of_the_only_relevant_picture_is_the_answer(desk: Desk, paths: list[str]) -> None:
    decide(desk, 0.1, 0.8)
    desk.engine.enqueue("A green thing")
    result = analyse(desk, paths[:2])
    assert [len(batch) for batch in desk.engine.batches] == [2, 1]
    assert result["answer"] == result["results"][1]["analysis"] == "A green thing"


@pytest.mark.parametrize(("threshold", "relevant"), [(0, [True] * 3), (0.5, [False, True, True]), (1, [False] * 3)])
def test_threshold_says_what_is_relevant(desk: Desk, paths: list[str], threshold: float, relevant: list[bool]) -> None:
    decide(desk, 0.49, 0.5, 0.99)
    result = analyse(desk, paths[:3], threshold=threshold)
    assert [item["relevant"] for item in result["results"]] == relevant


def test_metadata_goes_into_the_prompts_of_its_picture(desk: Desk, paths: list[str]) -> None:
    decide(desk, 0.9, 0.9, 0.9)
    analyse(desk, paths[:3], "Where?", metadata=["taken in Oslo", None, {"city": "Rome", "year": 2024}])
    check, _, other_check, first, second, third, together = [texts_of(c)[0][1] for c in desk.engine.conversations]
    assert check.startswith("<image> Context: taken in Oslo\n\nIs this image relevant")
    assert other_check.startswith("<image> Image metadata:\n- city: Rome\n- year: 2024\n\nIs this image relevant")
    assert first == "<image> Context: taken in Oslo\n\nWhere?"
    assert second == "<image> Where?"
    assert third == "<image> Image metadata:\n- city: Rome\n- year: 2024\n\nWhere?"
    assert together == "<image> <image> <image> Image 1: taken in Oslo\nImage 3: city: Rome, year: 2024\nWhere?"


def test_more_pictures_than_a_prompt_holds_are_answered_from_their_analyses(
    make_desk: MakeDesk, paths: list[str]
) -> None:
    desk = make_desk(VLLM_MAX_IMAGES_PER_PROMPT="2")
    for text in ("one", "two", "three", "all"):
        desk.engine.enqueue(text)
    arguments = {"check_relevance": False, "overall_answer": True, "metadata": [None, "Oslo", None]}
    result = analyse(desk, paths[:3], "How many?", **arguments)
    assert [len(batch) for batch in desk.engine.batches] == [3, 1]
    (role, text) = texts_of(desk.engine.conversations[-1])[0]
    assert role == "user"
    assert "3 images" in text
    assert "Image 1: one\nImage 2 (Oslo): two\nImage 3: three" in text
    assert text.endswith("How many?")
    assert not desk.engine.conversations[-1].messages[0].images
    assert result["answer"] == "all"


def test_pictures_too_large_for_one_prompt_are_answered_from_their_analyses(desk: Desk, paths: list[str]) -> None:
    for text in ("one", "two"):
        desk.engine.enqueue(text)
    desk.engine.enqueue(raises=PromptTooLong(9000, 2048))
    desk.engine.enqueue("all")
    result = analyse(desk, paths[:2], check_relevance=False)
    assert (result["answer"], result["error"]) == ("all", None)


def test_long_analyses_are_shortened_until_their_prompt_fits(make_desk: MakeDesk, paths: list[str]) -> None:
    desk = make_desk(VLLM_MAX_IMAGES_PER_PROMPT="1")
    for _ in range(2):
        desk.engine.enqueue("x" * 3000)
    desk.engine.enqueue(raises=PromptTooLong(9000, 2048))
    desk.engine.enqueue(raises=PromptTooLong(5000, 2048))
    desk.engine.enqueue("all")
    result = analyse(desk, paths[:2], check_relevance=False, overall_answer=True)
    whole, half, short = [texts_of(conversation)[0][1].count("x") for conversation in desk.engine.conversations[2:]]
    assert whole == 6000 > half > short
    assert (result["answer"], result["error"]) == ("all", None)


def test_an_answer_that_fails_says_why_and_keeps_the_analyses(make_desk: MakeDesk, paths: list[str]) -> None:
    desk = make_desk(VLLM_MAX_IMAGES_PER_PROMPT="1")
    for _ in range(2):
        desk.engine.enqueue("fine")
    desk.engine.enqueue(raises=InvalidGeneration("not like this"))
    result = analyse(desk, paths[:2], check_relevance=False, overall_answer=True)
    assert (result["answer"], result["error"]) == (None, "not like this")
    assert [item["analysis"] for item in result["results"]] == ["fine", "fine"]


def test_the_answer_can_be_left_out(desk: Desk, paths: list[str]) -> None:
    result = analyse(desk, paths[:2], check_relevance=False, overall_answer=False)
    assert [len(batch) for batch in desk.engine.batches] == [2]
    assert (result["answer"], result["error"]) == (None, None)


@pytest.mark.parametrize(("n_images", "answered"), [(2, True), (3, False)])
def test_without_the_check_an_answer_that_costs_time_comes_only_when_asked_for(
    make_desk: MakeDesk, paths: list[str], n_images: int, answered: bool
) -> None:
    desk = make_desk(VLLM_MAX_IMAGES_PER_PROMPT="2")
    result = analyse(desk, paths[:n_images], check_relevance=False)
    assert (result["answer"] is not None) is answered
    assert len(desk.engine.batches) == 1


def test_the_same_picture_may_come_twice(desk: Desk, paths: list[str]) -> None:
    result = analyse(desk, [paths[0], paths[0]], check_relevance=False)
    assert [item["index"] for item in result["results"]] == [0, 1]
    assert [item["analysis"] for item in result["results"]] == ["reply", "reply"]


def test_a_picture_is_taken_in_each_form(desk: Desk, paths: list[str]) -> None:
    data_url = "data:image/png;base64," + base64.b64encode(picture("red")).decode()
    result = analyse(desk, [paths[0], Path(paths[0]).as_uri(), data_url], check_relevance=False, overall_answer=False)
    digests = {conversation.messages[0].images[0].digest for conversation in desk.engine.conversations}
    assert len(digests) == 1
    assert [item["image"] for item in result["results"]] == [
        paths[0],
        Path(paths[0]).as_uri(),
        "data:image/png;base64,…",
    ]


def test_long_references_are_not_repeated_whole() -> None:
    assert len(shown_reference("http://a/" + "b" * 5000)) < 1100
    assert shown_reference("data:" + "x" * 5000).endswith(",…")
    assert len(shown_reference("data:" + "x" * 5000)) < 200


@pytest.mark.parametrize("tool", ["analyze_images_with_query", "chat_completion_batch"])
def test_the_engine_gets_the_first_picture_while_the_next_is_still_being_read(
    desk: Desk, paths: list[str], monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    really_read, really_generate = desk.services.images.read_path, desk.engine.generate
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

    monkeypatch.setattr(desk.services.images, "read_path", read_path)
    monkeypatch.setattr(desk.engine, "generate", generate)
    if tool == "analyze_images_with_query":
        arguments: Json = {"image_paths": paths, "query": "What is it?", "check_relevance": False}
    else:
        arguments = {"conversations": [[user([{"type": "image", "path": path}])] for path in paths]}
    assert [item.error for item in desk.result(tool, arguments).results][:2] == [None, None]


# What goes wrong with one picture


def test_an_unreadable_picture_does_not_fail_the_others(desk: Desk, paths: list[str], tmp_path: Path) -> None:
    decide(desk, 0.9, 0.9)
    (tmp_path / "broken.png").write_bytes(picture("red")[:40])
    references = ["/no/such/picture.png", paths[0], str(tmp_path / "broken.png"), paths[1], "ftp://x/a.png"]
    result = analyse(desk, references)
    errors = [item["error"] for item in result["results"]]
    assert errors[1] is errors[3] is None
    for index, words in ((0, "There is no file"), (2, "This is not a picture"), (4, "The URL ")):
        assert errors[index].startswith(f"arguments.image_paths[{index}]: {words}")
        assert [result["results"][index][name] for name in ("relevant", "probability", "analysis")] == [None] * 3
    assert [item["analysis"] for item in result["results"]] == [None, "reply", None, "reply", None]
    assert result["relevant_count"] == 2


def test_when_nothing_can_be_read_nothing_is_loaded(desk: Desk) -> None:
    result = analyse(desk, ["/no/such/picture.png"])
    assert result["results"][0]["error"].startswith("arguments.image_paths[0]: There is no file")
    assert desk.engine.n_loads == 0


def test_a_failed_check_is_an_error_and_never_relevant(desk: Desk, paths: list[str]) -> None:
    decide(desk, 0.9)
    desk.engine.enqueue(raises=GenerationFailed("The engine gave this request up."))
    desk.engine.enqueue("yes")  # an answer without a probability
    result = analyse(desk, paths[:3])
    assert [item["relevant"] for item in result["results"]] == [True, None, None]
    assert result["results"][1]["error"] == "arguments.image_paths[1]: The engine gave this request up."
    assert "no probability" in result["results"][2]["error"]
    assert [item["analysis"] for item in result["results"]] == ["reply", None, None]
    assert result["relevant_count"] == 1


@pytest.mark.parametrize("check_relevance", [True, False])
def test_a_single_picture_that_is_refused_is_its_error(desk: Desk, paths: list[str], check_relevance: bool) -> None:
    desk.engine.enqueue(raises=InvalidGeneration("The model reads no pictures."))
    result = analyse(desk, paths[:1], check_relevance=check_relevance)
    assert result["results"][0]["error"] == "arguments.image_paths[0]: The model reads no pictures."
    assert result["answer"] is None


def test_a_failed_analysis_keeps_its_relevance(desk: Desk, paths: list[str]) -> None:
    decide(desk, 0.9, 0.8)
    desk.engine.enqueue(raises=PromptTooLong(9000, 2048))
    desk.engine.enqueue("fine")
    desk.engine.enqueue("together")
    result = analyse(desk, paths[:2])
    assert "too long" in result["results"][0]["error"]
    assert (result["results"][0]["relevant"], result["results"][0]["analysis"]) == (True, None)
    assert (result["results"][1]["analysis"], result["answer"]) == ("fine", "together")


def test_where_no_analysis_succeeds_there_is_no_answer_and_a_reason(make_desk: MakeDesk, paths: list[str]) -> None:
    desk = make_desk(VLLM_MAX_IMAGES_PER_PROMPT="1")
    for _ in range(2):
        desk.engine.enqueue(raises=GenerationFailed("lost"))
    result = analyse(desk, paths[:2], check_relevance=False, overall_answer=True)
    assert (result["answer"], result["error"]) == (None, "There is no answer, since no picture could be analysed.")


def test_a_broken_engine_fails_the_call(desk: Desk, paths: list[str]) -> None:
    desk.engine.enqueue(raises=EngineDied("The engine stopped working."))
    arguments = {"image_paths": paths[:1], "query": "What?"}
    assert desk.error("analyze_images_with_query", arguments) == "The engine stopped working."


def test_pictures_that_take_too_much_memory_together_are_refused_one_by_one(desk: Desk, paths: list[str]) -> None:
    desk.services.budget.max_bytes = 2 * (8 * 6 * 4)
    result = analyse(desk, paths[:4], check_relevance=False)
    errors = [item["error"] for item in result["results"] if item["error"]]
    assert len(errors) == 2
    assert all("VLLM_MAX_HELD_BYTES" in error for error in errors)


# Deadlines, cancelling, progress


def test_at_the_deadline_what_is_finished_is_reported(desk: Desk, paths: list[str]) -> None:
    decide(desk, 0.9, 0.9, 0.9)
    desk.engine.enqueue("fine")
    desk.engine.enqueue(tokens=["Half", " of it"], hold=threading.Event())
    desk.engine.enqueue(tokens=["never"], hold=threading.Event())
    result = analyse(desk, paths[:3], timeout_s=0.3)
    first, second, third = result["results"]
    assert (first["analysis"], first["finish_reason"], first["error"]) == ("fine", "stop", None)
    assert (second["analysis"], second["finish_reason"]) == ("Half", "timeout")
    assert "cut off" in second["error"]
    assert (third["analysis"], third["finish_reason"]) == (None, "timeout")
    assert "time was up before this picture was analysed" in third["error"]
    assert [item["relevant"] for item in result["results"]] == [True] * 3
    assert "time was up" in result["error"]


def test_checks_that_the_deadline_cut_off_are_errors(desk: Desk, paths: list[str]) -> None:
    decide(desk, 0.9)
    desk.engine.enqueue("yes", probabilities=(1.0, 0.0), hold=threading.Event())
    result = analyse(desk, paths[:2], timeout_s=0.2)
    assert result["results"][0]["relevant"] is True
    assert "time was up before this picture was analysed" in result["results"][0]["error"]
    assert result["results"][1]["relevant"] is None
    assert "time was up before this picture was checked" in result["results"][1]["error"]
    assert len(desk.engine.batches) == 1


def test_pictures_that_do_not_arrive_in_time_say_so(
    desk: Desk, paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    really_read, released = desk.services.images.read, threading.Event()

    def read(reference: str, **options: Any) -> Any:
        if reference == paths[1]:
            released.wait(30)
        return really_read(reference, **options)

    monkeypatch.setattr(desk.services.images, "read", read)
    started_s = time.monotonic()
    result = analyse(desk, paths[:3], check_relevance=False, timeout_s=0.2)
    released.set()
    assert time.monotonic() - started_s < 5
    assert "time was up before this picture was read" in result["results"][1]["error"]
    assert "time was up before this picture was analysed" in result["results"][0]["error"]


@pytest.mark.parametrize("moment", ["reading", "generating"])
def test_a_cancelled_call_stops(desk: Desk, paths: list[str], monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    reached, released = threading.Event(), threading.Event()
    if moment == "reading":
        really_read = desk.services.images.read

        def read(reference: str, **options: Any) -> Any:
            reached.set()
            released.wait(30)
            return really_read(reference, **options)

        monkeypatch.setattr(desk.services.images, "read", read)
    else:
        reached = desk.engine.generating
        desk.engine.enqueue("yes", hold=threading.Event())
    call = desk.make_call("analyze_images_with_query", {"image_paths": paths[:2], "query": "What?"})
    worker = threading.Thread(target=desk.toolbox.run, args=(call,))
    worker.start()
    assert reached.wait(30)
    assert call.claim()
    worker.join(30)
    assert not worker.is_alive()
    released.set()
    assert len(desk.engine.batches) == (0 if moment == "reading" else 1)


def test_progress_counts_pictures(desk: Desk, paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handlers.progress.MIN_INTERVAL_S", 0.0)
    decide(desk, 0.9, 0.1, 0.9)
    arguments = {"image_paths": [*paths[:3], "/no/such.png"], "query": "What?"}
    desk.result("analyze_images_with_query", arguments, progress_token=1)
    told = [message["params"] for message in desk.sent if message["params"].get("total")]
    assert [(params["progress"], params["total"], params["message"]) for params in told] == [
        (1, 6, "1 of 3 images checked"),
        (2, 6, "2 of 3 images checked"),
        (3, 6, "3 of 3 images checked"),
        (5, 6, "1 of 2 images analysed"),
        (6, 6, "2 of 2 images analysed"),
    ]


# Arguments


def test_sampling_reaches_the_analyses_and_defaults_to_greedy(make_desk: MakeDesk, paths: list[str]) -> None:
    desk = make_desk(VLLM_DEFAULT_MAX_TOKENS="9", VLLM_DEFAULT_TOP_P="0.5", VLLM_DEFAULT_TEMPERATURE="1.5")
    analyse(desk, paths[:1], check_relevance=False)
    analyse(desk, paths[:1], check_relevance=False, temperature=0.4, max_tokens=3, top_p=0.9, seed=5)
    first, second = (conversation.sampling for conversation in desk.engine.conversations)
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
        ({"metadata": ["a", "b"]}, "arguments.metadata: 2 entries for 1 pictures; give one for each"),
        ({"metadata": [5]}, "arguments.metadata[0]: expected str | object | null, got int"),
        ({"threshold": 1.1}, "arguments.threshold: expected float <= 1"),
        ({"timeout_s": 0}, "arguments.timeout_s: expected float > 0"),
        ({"max_tokens": 0}, "arguments.max_tokens: expected int >= 1"),
        ({"images": ["/a.png"]}, "arguments.images: there is no such argument."),
    ],
)
def test_wrong_argument_is_named_and_nothing_is_loaded(desk: Desk, arguments: Json, words: str) -> None:
    given = {"image_paths": ["/a.png"], "query": "What?", **arguments}
    assert desk.error("analyze_images_with_query", given).startswith(words)
    assert desk.engine.n_loads == 0


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("What is it?", "What is it?"),
        ("Describe the image.", "Describe the image."),
        ("Que voit-on ?", "Que voit-on ?"),
        ("这是什么？", "这是什么？"),
        (
            "describe everything that you can see in this picture",
            "describe everything that you can see in this picture",
        ),
        (" red circle ", "Query: red circle\nWhat do you see in this image?"),
        ("an invoice from 2024", "Query: an invoice from 2024\nWhat do you see in this image?"),
    ],
)
def test_keywords_alone_become_an_instruction(query: str, asked: str) -> None:
    assert instruction(query) == asked


def test_keywords_about_several_pictures_ask_about_all_of_them(desk: Desk, paths: list[str]) -> None:
    analyse(desk, paths[:2], "red circle", check_relevance=False)
    asked = "<image> <image> Query: red circle\nWhat do you see in these images?"
    assert texts_of(desk.engine.conversations[-1]) == [("user", asked)]


# One picture


def test_relevance_of_one_picture(desk: Desk, paths: list[str]) -> None:
    decide(desk, 0.8)
    result = desk.run("check_image_relevance", {"image_path": paths[0], "query": "it's red", "metadata": "Oslo"})
    relevance = structured(result)
    jsonschema.Draft202012Validator(OUTPUT_SCHEMAS["check_image_relevance"]).validate(relevance)
    assert {name: relevance[name] for name in ("relevant", "probability", "threshold", "image", "model")} == {
        "relevant": True,
        "probability": 0.8,
        "threshold": 0.5,
        "image": paths[0],
        "model": "fake-model",
    }
    (conversation,) = desk.engine.conversations
    assert texts_of(conversation) == [
        ("user", '<image> Context: Oslo\n\nIs this image relevant to the query "it\'s red"? Answer yes or no.')
    ]
    assert (conversation.choice, conversation.sampling.temperature) == (YES_NO, 0.0)


def test_threshold_of_one_picture(desk: Desk, paths: list[str]) -> None:
    decide(desk, 0.8)
    assert not desk.result("check_image_relevance", {"image_path": paths[0], "query": "x", "threshold": 0.9}).relevant


@pytest.mark.parametrize("timed_out", [True, False])
def test_a_check_that_fails_is_an_error(desk: Desk, paths: list[str], timed_out: bool) -> None:
    desk.engine.enqueue("yes", finish_reason=FinishReason.TIMEOUT if timed_out else FinishReason.STOP)
    text = desk.error("check_image_relevance", {"image_path": paths[0], "query": "red"})
    assert ("time was up" if timed_out else "no probability") in text


def test_one_picture_is_analysed_like_a_chat(desk: Desk, paths: list[str]) -> None:
    desk.engine.enqueue("A red thing")
    result = desk.run("analyze_single_image", {"image_path": paths[0], "query": "What is it?", "seed": 3})
    assert result["content"] == [{"type": "text", "text": "A red thing"}]
    chat = structured(result)
    jsonschema.Draft202012Validator(OUTPUT_SCHEMAS["analyze_single_image"]).validate(chat)
    assert (chat["text"], chat["finish_reason"], chat["seed"]) == ("A red thing", "stop", 3)
    assert chat["usage"]["image_tokens"] == 16
    assert chat["session_id"] is None
    assert texts_of(desk.engine.conversations[0]) == [("user", "<image> What is it?")]


def test_one_picture_streams_its_text(desk: Desk, paths: list[str]) -> None:
    desk.engine.enqueue(tokens=["A", " red", " thing"])
    desk.result("analyze_single_image", {"image_path": paths[0], "query": "What?"}, progress_token="p")
    told = [message["params"]["message"] for message in desk.sent if message["params"].get("total")]
    assert "".join(told) == "A red thing"


@pytest.mark.parametrize("tool", ["check_image_relevance", "analyze_single_image"])
@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("/no/such.png", "arguments.image_path: There is no file"),
        ("/proc/self/environ", "arguments.image_path: The path "),
        ("http://127.0.0.1:1/a.png", "arguments.image_path: The host "),
        ("data:image/png;base64,abcd", "arguments.image_path: This is not a picture"),
        ("", "arguments.image_path: expected str of length >= 1"),
    ],
)
def test_one_picture_that_cannot_be_read_is_an_error(desk: Desk, tool: str, reference: str, words: str) -> None:
    assert desk.error(tool, {"image_path": reference, "query": "What?"}).startswith(words)
    assert desk.engine.n_loads == 0


# The model


def test_model_status_tells_without_loading(desk: Desk) -> None:
    result = desk.run("get_model_status")
    status = structured(result)
    jsonschema.Draft202012Validator(OUTPUT_SCHEMAS["get_model_status"]).validate(status)
    assert (status["status"], status["loaded"], status["model_name"]) == ("unloaded", False, "fake-model")
    assert status["memory_used_bytes"] > 1 << 20
    assert (status["active_references"], status["device"]) == (0, None)
    assert desk.engine.n_loads == 0


def test_model_status_after_a_load(desk: Desk) -> None:
    desk.chat(session_id="s")
    status = desk.result("get_model_status")
    assert (status.status, status.loaded, status.device, status.active_references) == ("loaded", True, "cpu", 1)
