"""Images that fail, deadlines, cancelling and progress in the vision tools."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from engine.errors import EngineDied, GenerationFailed, InvalidGeneration, PromptTooLong
from tests.unit.handlers.tool_client import Client, make_image
from tests.unit.handlers.vision_calls import MakeClient, analyse, decide


def test_an_unreadable_image_does_not_fail_the_others(client: Client, paths: list[str], tmp_path: Path) -> None:
    decide(client, 0.9, 0.9)
    (tmp_path / "broken.png").write_bytes(make_image("red")[:40])
    references = ["/no/such/picture.png", paths[0], str(tmp_path / "broken.png"), paths[1], "ftp://x/a.png"]
    result = analyse(client, references)
    errors = [item["error"] for item in result["results"]]
    assert errors[1] is errors[3] is None
    for index, words in ((0, "There is no file"), (2, "This is not an image"), (4, "The URL ")):
        assert errors[index].startswith(f"arguments.image_paths[{index}]: {words}")
        assert [result["results"][index][name] for name in ("relevant", "probability", "analysis")] == [None] * 3
    assert [item["analysis"] for item in result["results"]] == [None, "reply", None, "reply", None]
    assert result["relevant_count"] == 2


def test_when_nothing_can_be_read_nothing_is_loaded(client: Client) -> None:
    result = analyse(client, ["/no/such/picture.png"])
    assert result["results"][0]["error"].startswith("arguments.image_paths[0]: There is no file")
    assert client.engine.n_loads == 0


def test_a_failed_check_is_an_error_and_never_relevant(client: Client, paths: list[str]) -> None:
    decide(client, 0.9)
    client.engine.enqueue(raises=GenerationFailed("The engine gave this request up."))
    client.engine.enqueue("yes")  # an answer without a probability
    result = analyse(client, paths[:3])
    assert [item["relevant"] for item in result["results"]] == [True, None, None]
    assert result["results"][1]["error"] == "arguments.image_paths[1]: The engine gave this request up."
    assert "no probability" in result["results"][2]["error"]
    assert [item["analysis"] for item in result["results"]] == ["reply", None, None]
    assert result["relevant_count"] == 1


@pytest.mark.parametrize("check_relevance", [True, False])
def test_a_single_image_that_is_refused_is_its_error(client: Client, paths: list[str], check_relevance: bool) -> None:
    client.engine.enqueue(raises=InvalidGeneration("The model does not accept images."))
    result = analyse(client, paths[:1], check_relevance=check_relevance)
    assert result["results"][0]["error"] == "arguments.image_paths[0]: The model does not accept images."
    assert result["answer"] is None


def test_a_failed_analysis_keeps_its_relevance(client: Client, paths: list[str]) -> None:
    decide(client, 0.9, 0.8)
    client.engine.enqueue(raises=PromptTooLong(9000, 2048))
    client.engine.enqueue("fine")
    client.engine.enqueue("together")
    result = analyse(client, paths[:2])
    assert "too long" in result["results"][0]["error"]
    assert (result["results"][0]["relevant"], result["results"][0]["analysis"]) == (True, None)
    assert (result["results"][1]["analysis"], result["answer"]) == ("fine", "together")


def test_where_no_analysis_succeeds_there_is_no_answer_and_a_reason(make_client: MakeClient, paths: list[str]) -> None:
    client = make_client(VLLM_MAX_IMAGES_PER_PROMPT="1")
    for _ in range(2):
        client.engine.enqueue(raises=GenerationFailed("lost"))
    result = analyse(client, paths[:2], check_relevance=False, overall_answer=True)
    assert (result["answer"], result["error"]) == (
        None,
        "There is no overall answer, since no image could be analysed.",
    )


def test_a_broken_engine_fails_the_call(client: Client, paths: list[str]) -> None:
    client.engine.enqueue(raises=EngineDied("The engine stopped working."))
    arguments = {"image_paths": paths[:1], "query": "What?"}
    assert client.error("analyze_images_with_query", arguments) == "The engine stopped working."


def test_images_that_take_too_much_memory_together_are_refused_one_by_one(client: Client, paths: list[str]) -> None:
    client.services.budget.max_bytes = 2 * (8 * 6 * 4)
    result = analyse(client, paths[:4], check_relevance=False)
    errors = [item["error"] for item in result["results"] if item["error"]]
    assert len(errors) == 2
    assert all("VLLM_MAX_HELD_BYTES" in error for error in errors)


# Deadlines, cancelling, progress


def test_at_the_deadline_what_is_finished_is_reported(client: Client, paths: list[str]) -> None:
    decide(client, 0.9, 0.9, 0.9)
    client.engine.enqueue("fine")
    client.engine.enqueue(tokens=["Half", " of it"], hold=threading.Event())
    client.engine.enqueue(tokens=["never"], hold=threading.Event())
    result = analyse(client, paths[:3], timeout_s=1)
    first, second, third = result["results"]
    assert (first["analysis"], first["finish_reason"], first["error"]) == ("fine", "stop", None)
    assert (second["analysis"], second["finish_reason"]) == ("Half", "timeout")
    assert "cut off" in second["error"]
    assert (third["analysis"], third["finish_reason"]) == (None, "timeout")
    assert "time was up before this image was analysed" in third["error"]
    assert [item["relevant"] for item in result["results"]] == [True] * 3
    assert "time was up" in result["error"]


def test_checks_that_the_deadline_cut_off_are_errors(client: Client, paths: list[str]) -> None:
    decide(client, 0.9)
    client.engine.enqueue("yes", probabilities=(1.0, 0.0), hold=threading.Event())
    result = analyse(client, paths[:2], timeout_s=1)
    assert result["results"][0]["relevant"] is True
    assert "time was up before this image was analysed" in result["results"][0]["error"]
    assert result["results"][1]["relevant"] is None
    assert "time was up before this image was checked" in result["results"][1]["error"]
    assert len(client.engine.batches) == 1


def test_images_that_do_not_arrive_in_time_say_so(
    client: Client, paths: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    really_read, released = client.services.images.read, threading.Event()

    def read(reference: str, **options: Any) -> Any:
        if reference == paths[1]:
            released.wait(30)
        return really_read(reference, **options)

    monkeypatch.setattr(client.services.images, "read", read)
    started_s = time.monotonic()
    result = analyse(client, paths[:3], check_relevance=False, timeout_s=1)
    released.set()
    assert time.monotonic() - started_s < 5
    assert "time was up before this image was read" in result["results"][1]["error"]
    assert "time was up before this image was analysed" in result["results"][0]["error"]


@pytest.mark.parametrize("moment", ["reading", "generating"])
def test_a_cancelled_call_stops(client: Client, paths: list[str], monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    reached, released = threading.Event(), threading.Event()
    if moment == "reading":
        really_read = client.services.images.read

        def read(reference: str, **options: Any) -> Any:
            reached.set()
            released.wait(30)
            return really_read(reference, **options)

        monkeypatch.setattr(client.services.images, "read", read)
    else:
        reached = client.engine.generating
        client.engine.enqueue("yes", hold=threading.Event())
    call = client.make_call("analyze_images_with_query", {"image_paths": paths[:2], "query": "What?"})
    worker = threading.Thread(target=client.toolbox.run, args=(call,))
    worker.start()
    assert reached.wait(30)
    assert call.claim_response()
    worker.join(30)
    assert not worker.is_alive()
    released.set()
    assert len(client.engine.batches) == (0 if moment == "reading" else 1)


def test_progress_counts_images(client: Client, paths: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handlers.progress.MIN_INTERVAL_S", 0.0)
    decide(client, 0.9, 0.1, 0.9)
    arguments = {"image_paths": [*paths[:3], "/no/such.png"], "query": "What?"}
    client.result("analyze_images_with_query", arguments, progress_token=1)
    told = [message["params"] for message in client.sent if message["params"].get("total")]
    assert [(params["progress"], params["total"], params["message"]) for params in told] == [
        (1, 6, "1 of 3 images checked"),
        (2, 6, "2 of 3 images checked"),
        (3, 6, "3 of 3 images checked"),
        (5, 6, "1 of 2 images analysed"),
        (6, 6, "2 of 2 images analysed"),
    ]
