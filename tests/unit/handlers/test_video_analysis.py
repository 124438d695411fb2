"""A video in one call: its frames, when something is to be seen in them, and the answer over all."""

from __future__ import annotations

import base64
import json
import threading
import time
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from engine.errors import EngineDied, GenerationFailed, InvalidGeneration, PromptTooLong
from engine.interface import ImagePart
from handlers.vision.frame_analysis import FoundSpan, Frame, found_spans, sampling_step_s
from handlers.vision.prompts import frames_summary_prompt
from handlers.yes_no import YES_NO
from tests.unit.fake_engine import texts_of
from tests.unit.handlers.tool_client import Client
from tests.unit.handlers.vision_calls import OUTPUT_SCHEMAS, MakeClient, decide, structured
from tests.unit.media.hostile_files import swollen_mp4s
from tests.unit.media.numbered_video import number_in, numbered_video
from tests.unit.media.sample_media import audio_file, video_file


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A video of 100 frames and 4 s."""
    (tmp_path / "a.mp4").write_bytes(numbered_video())
    return str(tmp_path / "a.mp4")


def watch(client: Client, path: str, query: str = "What happens?", **arguments: Any) -> Any:
    """The result of a call that succeeds, checked against its schema."""
    result = client.run("analyze_video", {"video_path": path, "query": query, **arguments})
    assert not result["isError"], result
    watched = structured(result)
    jsonschema.Draft202012Validator(OUTPUT_SCHEMAS["analyze_video"]).validate(watched)
    assert json.loads(result["content"][0]["text"]) == watched
    return watched


def shown(client: Client) -> list[list[int]]:
    """The numbers of the frames that each conversation got."""
    return [
        [number_in(image.image) for message in conversation.messages for image in message.images]
        for conversation in client.engine.conversations
    ]


def test_frames_are_checked_in_one_batch_and_seen_together_with_their_times(client: Client, path: str) -> None:
    decide(client, 0.2, 0.9, 0.8, 0.1)
    client.engine.enqueue("It turns blue.")
    result = watch(client, path, max_frames=4)
    assert [len(batch) for batch in client.engine.batches] == [4, 1]
    assert shown(client) == [[12], [37], [62], [87], [12, 37, 62, 87]]
    checks, together = client.engine.conversations[:4], client.engine.conversations[4]
    assert all(check.choice == YES_NO for check in checks)
    question = "<image> Is this image relevant to the query 'What happens?'? Answer yes or no."
    assert texts_of(checks[0]) == [("user", question)]
    times = "image 1 at 0.48 s, image 2 at 1.48 s, image 3 at 2.48 s, image 4 at 3.48 s"
    assert texts_of(together) == [
        ("user", f"<image> <image> <image> <image> These images are frames of a video of 4 s: {times}.\nWhat happens?")
    ]
    assert (result["answer"], result["error"]) == ("It turns blue.", None)
    assert result["found"] == [{"start_s": 0.98, "end_s": 2.98, "probability": 0.9}]
    assert result["sampling_step_s"] == 1.0
    assert result["frames"] == [
        {
            "time_s": time_s,
            "relevant": probability >= 0.5,
            "probability": probability,
            "description": None,
            "finish_reason": None,
            "error": None,
        }
        for time_s, probability in ((0.48, 0.2), (1.48, 0.9), (2.48, 0.8), (3.48, 0.1))
    ]
    assert result["video"] == {
        "video": path,
        "duration_s": 4.0,
        "fps": 25.0,
        "n_frames": 100,
        "width": 192,
        "height": 64,
        "has_audio": False,
    }
    assert result["model"] == "fake-model"
    assert result["usage"]["image_tokens"] == (4 + 4) * 16
    assert result["timings"]["load_ms"] == 500


def test_more_frames_than_a_prompt_holds_are_described_briefly_for_the_answer(client: Client, path: str) -> None:
    decide(client, *[0.1] * 5)
    for text in ("A red circle.", "A red circle.", "A blue square.", "", "A blue square."):
        client.engine.enqueue(text)
    client.engine.enqueue("First a circle, then a square.")
    result = watch(client, path, max_frames=5, max_tokens=1_000)
    assert [len(batch) for batch in client.engine.batches] == [5, 5, 1]
    described, answer = client.engine.conversations[5:10], client.engine.conversations[10]
    assert texts_of(described[1])[0][1] == "<image> Context: a frame of a video of 4 s, at 1.2 s.\n\nWhat happens?"
    assert {conversation.sampling.max_tokens for conversation in described} == {128}
    assert answer.sampling.max_tokens == 1_000
    assert texts_of(answer)[0][1] == (
        "Frames of a video of 4 s were looked at one by one. What was found in them:\n\n"
        "From 0.4 s to 1.2 s: A red circle.\nFrom 2 s to 3.6 s: A blue square.\n\n"
        "Answer over the whole video: What happens?"
    )
    assert result["answer"] == "First a circle, then a square."
    assert result["found"] == []
    assert [frame["description"] for frame in result["frames"]] == [None] * 5


@pytest.mark.parametrize("max_frames", [2, 5])
def test_descriptions_come_with_their_frames_if_wanted(client: Client, path: str, max_frames: int) -> None:
    decide(client, *[0.9] * max_frames)
    for number in range(max_frames):
        client.engine.enqueue(f"text {number}")
    client.engine.enqueue("all")
    result = watch(client, path, max_frames=max_frames, per_frame=True, max_tokens=1_000)
    assert [frame["description"] for frame in result["frames"]] == [f"text {number}" for number in range(max_frames)]
    assert {frame["finish_reason"] for frame in result["frames"]} == {"stop"}
    assert {each.sampling.max_tokens for each in client.engine.conversations[max_frames:]} == {1_000}
    assert result["answer"] == "all"


def test_without_the_check_there_are_no_times(client: Client, path: str) -> None:
    result = watch(client, path, max_frames=3, check_relevance=False)
    assert [len(batch) for batch in client.engine.batches] == [1]
    assert result["found"] is None
    assert {frame["relevant"] for frame in result["frames"]} == {None}
    assert result["answer"] == "reply"


def test_a_span_is_looked_at_closely(client: Client, path: str) -> None:
    decide(client, 0.1, 0.9, 0.9)
    result = watch(client, path, max_frames=3, start_s=1.0, end_s=1.3)
    assert [frame["time_s"] for frame in result["frames"]] == [1.04, 1.12, 1.24]
    assert result["found"] == [{"start_s": 1.08, "end_s": 1.3, "probability": 0.9}]
    assert result["sampling_step_s"] == 0.12
    every = watch(client, path, max_frames=100, start_s=1.0, end_s=1.2, check_relevance=False)
    assert [frame["time_s"] for frame in every["frames"]] == [1.0, 1.04, 1.08, 1.12, 1.16]
    assert every["sampling_step_s"] == 0.04


def test_threshold_and_default_number_of_frames(client: Client, path: str) -> None:
    decide(client, *[0.6] * 16)
    result = watch(client, path, threshold=0.7)
    assert len(result["frames"]) == 16
    assert result["found"] == []


def test_another_model_watches_with_its_own_limits(make_client: MakeClient, path: str) -> None:
    models = {"eyes": {"model": "/models/eyes", "max_images_per_prompt": 8}}
    client = make_client(VLLM_MODELS=json.dumps(models))
    result = watch(client, path, model="eyes", max_frames=8, check_relevance=False)
    assert result["model"] == "eyes"
    assert [len(batch) for batch in client.engines["eyes"].batches] == [1]
    assert not client.engine.batches
    text = client.error("analyze_video", {"video_path": path, "query": "a", "model": "ears"})
    assert "ears" in text
    assert "eyes" in text


def test_a_data_url_is_a_video_too_and_is_not_repeated(client: Client) -> None:
    url = f"data:video/mp4;base64,{base64.b64encode(numbered_video()).decode()}"
    result = watch(client, url, max_frames=1)
    assert result["video"]["video"] == "data:video/mp4;base64,…"
    assert [frame["time_s"] for frame in result["frames"]] == [2.0]
    assert result["sampling_step_s"] == 4.0


# Spans


def frames(*probabilities: float | None, step_s: float = 1.0, apart: int = 10) -> list[Frame]:
    made = []
    for index, probability in enumerate(probabilities):
        relevant = None if probability is None else probability >= 0.5
        image: Any = ImagePart(None, "")  # type: ignore[arg-type]
        frame = Frame(index, image, None, relevant, probability, time_s=(index + 0.5) * step_s, number=index * apart)
        made.append(frame)
    return made


@pytest.mark.parametrize(
    ("probabilities", "spans"),
    [
        ((0.9, 0.9, 0.1, 0.1), [(0, 2, 0.9)]),
        ((0.1, 0.1, 0.9, 0.8), [(2, 4, 0.9)]),
        ((0.6, 0.1, 0.7, 0.1), [(0, 1, 0.6), (2, 3, 0.7)]),
        ((0.6, 0.7, 0.8, 0.9), [(0, 4, 0.9)]),
        ((0.6, None, 0.8, 0.9), [(0, 1, 0.6), (2, 4, 0.9)]),
        ((0.1, 0.1, 0.1, 0.1), []),
        ((0.5, 0.1), [(0, 1, 0.5)]),
        ((0.9,), [(0, 4, 0.9)]),
    ],
)
def test_neighbouring_frames_make_a_span(
    probabilities: tuple[float | None, ...], spans: list[tuple[float, float, float]]
) -> None:
    assert found_spans(frames(*probabilities), 0, 4) == [FoundSpan(*span) for span in spans]


def test_between_neighbouring_frames_of_the_file_the_edge_is_exact() -> None:
    assert found_spans(frames(0.1, 0.9, 0.1, apart=1), 0, 4) == [FoundSpan(1.5, 2.5, 0.9)]


def test_a_span_begins_where_the_caller_began() -> None:
    seen = frames(0.9, 0.9)
    assert found_spans(seen, 1.2, 1.8) == [FoundSpan(1.2, 1.8, 0.9)]


def test_where_nothing_could_be_checked_nothing_is_claimed() -> None:
    assert found_spans(frames(None, None), 0, 4) is None


def test_the_sampling_step_is_the_longest() -> None:
    assert sampling_step_s(frames(0.1, 0.1, 0.1), 0, 4) == 1.0
    assert sampling_step_s(frames(0.1), 0.5, 4) == 3.5
    assert sampling_step_s(frames(0.1, 0.1, step_s=0.3333), 0, 4) == 0.333
    uneven = frames(0.1, 0.1, 0.1)
    uneven[2].time_s = 9.0
    assert sampling_step_s(uneven, 0, 10) == 7.5


def test_speech_is_in_the_prompt_and_cut_to_its_share() -> None:
    spoken = [(0.0, 2.5, "hello " * 100), (2.5, 4.0, "world " * 100), (4.0, 5.0, "end")]
    (message,) = frames_summary_prompt("What?", [(1, 1, "a")], 6, spoken, None)
    assert "What is said in the video:\nFrom 0 s to 2.5 s: hello hello" in message.text
    assert message.text.endswith("From 4 s to 5 s: end\n\nAnswer over the whole video: What?")
    (message,) = frames_summary_prompt("What?", [(1, 1, "a")], 6, spoken, 100)
    assert len(message.text) < 1_200
    assert "…\n\nAnswer over the whole video" in message.text


# Failures


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"start_s": 2, "end_s": 2}, "arguments.end_s: 2 is not behind start_s, 2"),
        ({"start_s": 3, "end_s": 1}, "arguments.end_s: 1 is not behind start_s, 3"),
        ({"start_s": 4}, "arguments.video_path: The video ends at 4.000 s; there is nothing from 4 s on."),
        ({"start_s": -1}, "start_s"),
        ({"end_s": 0}, "end_s"),
        ({"max_frames": 0}, "max_frames"),
        ({"max_frames": 257}, "max_frames"),
        ({"query": " "}, "arguments.query: it is blank"),
        ({"video_path": "/no/such.mp4"}, "arguments.video_path: There is no file"),
        ({"video_path": "http://169.254.169.254/a.mp4"}, "not on the public internet"),
        ({"video_path": "ftp://x/a.mp4"}, "only http, https, data and file"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_loaded(
    client: Client, path: str, arguments: dict[str, Any], words: str
) -> None:
    text = client.error("analyze_video", {"video_path": path, "query": "What?", **arguments})
    assert words in text
    assert client.engine.n_loads == 0


FILES = {
    "audio": (audio_file("mp3", "libmp3lame"), "There is no video in this file"),
    "text": (b"hello", "not video in a supported format"),
    "cut": (numbered_video()[:2_000], "damaged or cut off"),
    "no frames": (video_file("matroska", "mpeg4", frames=0, audio="flac", audio_s=1), "damaged"),
    "hostile": (swollen_mp4s()["stsz of several tracks"], "arguments.video_path"),
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_video_are_refused(client: Client, tmp_path: Path, name: str) -> None:
    data, words = FILES[name]
    (tmp_path / "a").write_bytes(data)
    text = client.error("analyze_video", {"video_path": str(tmp_path / "a"), "query": "What?"})
    assert words in text
    assert client.engine.n_loads == 0


def test_a_failed_check_is_the_error_of_its_frame(client: Client, path: str) -> None:
    decide(client, 0.9)
    client.engine.enqueue(raises=GenerationFailed("The engine gave this request up."))
    client.engine.enqueue("yes")  # an answer without a probability
    result = watch(client, path, max_frames=3)
    errors = [frame["error"] for frame in result["frames"]]
    assert errors[:2] == [None, "The engine gave this request up."]
    assert "no probability" in errors[2]
    assert result["found"] == [{"start_s": 0.0, "end_s": pytest.approx(1.3, abs=0.1), "probability": 0.9}]
    assert result["answer"] == "reply"


@pytest.mark.parametrize("more", [{}, {"check_relevance": False}, {"check_relevance": False, "per_frame": True}])
@pytest.mark.parametrize("max_frames", [1, 3, 5])
def test_a_model_without_eyes_fails_the_call(client: Client, path: str, max_frames: int, more: dict[str, Any]) -> None:
    for _ in range(2 * max_frames + 1):
        client.engine.enqueue(raises=InvalidGeneration("The model does not accept images."))
    text = client.error("analyze_video", {"video_path": path, "query": "What?", "max_frames": max_frames, **more})
    assert text == "The model does not accept images."


def test_frames_too_large_for_one_prompt_are_described_instead(client: Client, path: str) -> None:
    decide(client, 0.9, 0.9)
    client.engine.enqueue(raises=PromptTooLong(9_000, 2_048))
    for text in ("one", "two", "summary"):
        client.engine.enqueue(text)
    result = watch(client, path, max_frames=2)
    assert [len(batch) for batch in client.engine.batches] == [2, 1, 2, 1]
    assert (result["answer"], result["error"]) == ("summary", None)


def test_where_nothing_can_be_described_there_is_a_reason(client: Client, path: str) -> None:
    decide(client, *[0.9] * 5)
    for _ in range(5):
        client.engine.enqueue(raises=GenerationFailed("lost"))
    result = watch(client, path, max_frames=5)
    assert (result["answer"], result["error"]) == (None, "lost")
    assert len(result["found"]) == 1


def test_a_broken_engine_fails_the_call(client: Client, path: str) -> None:
    client.engine.enqueue(raises=EngineDied("The engine stopped working."))
    assert (
        client.error("analyze_video", {"video_path": path, "query": "a", "max_frames": 1})
        == "The engine stopped working."
    )


def test_frames_that_take_too_much_memory_are_refused(client: Client, path: str) -> None:
    client.services.budget.max_bytes = 3 * 192 * 64 * 4
    text = client.error("analyze_video", {"video_path": path, "query": "a", "max_frames": 4})
    assert "VLLM_MAX_HELD_BYTES" in text
    assert watch(client, path, max_frames=3)["answer"] == "reply"


# Deadlines, cancelling, progress


def test_at_the_deadline_what_is_finished_is_reported(client: Client, path: str) -> None:
    decide(client, 0.9, 0.1)
    client.engine.enqueue("fine")
    client.engine.enqueue(tokens=["Half", " of it"], hold=threading.Event())
    result = watch(client, path, max_frames=2, per_frame=True, timeout_s=1.5)
    first, second = result["frames"]
    assert (first["description"], first["error"]) == ("fine", None)
    assert (second["description"], second["finish_reason"]) == ("Half", "timeout")
    assert "cut off" in second["error"]
    assert result["found"] == [{"start_s": 0.0, "end_s": 2.0, "probability": 0.9}]
    assert "time was up before the overall answer" in result["error"]


def test_checks_that_the_deadline_cut_off_are_errors(client: Client, path: str) -> None:
    decide(client, 0.9)
    client.engine.enqueue("yes", probabilities=(1.0, 0.0), hold=threading.Event())
    result = watch(client, path, max_frames=2, timeout_s=1.5)
    assert [frame["relevant"] for frame in result["frames"]] == [True, None]
    assert "time was up before this frame was checked" in result["frames"][1]["error"]
    assert result["answer"] is None
    assert "time was up" in result["error"]


def test_where_nothing_was_done_in_time_the_result_says_so(client: Client, path: str) -> None:
    client.engine.enqueue(tokens=["never"], hold=threading.Event())
    result = watch(client, path, max_frames=5, check_relevance=False, timeout_s=1)
    assert result["answer"] is None
    assert "time was up before the overall answer" in result["error"]


def test_a_model_without_words_has_no_answer(client: Client, path: str) -> None:
    for _ in range(5):
        client.engine.enqueue("")
    result = watch(client, path, max_frames=5, check_relevance=False, per_frame=True)
    assert (result["answer"], result["frames"][0]["description"]) == (None, "")
    assert "described no frame" in result["error"]


def test_a_video_that_does_not_arrive_in_time_says_so(
    client: Client, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(client.services.videos, "frames", lambda *arguments: released.wait(30))
    started_s = time.monotonic()
    text = client.error("analyze_video", {"video_path": path, "query": "a", "timeout_s": 0.2})
    released.set()
    assert time.monotonic() - started_s < 10
    assert text == "The call's time was up before the video was read."


@pytest.mark.parametrize("moment", ["reading", "checking"])
def test_a_cancelled_call_stops(client: Client, path: str, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    reached, released = threading.Event(), threading.Event()
    if moment == "reading":

        def read(*arguments: Any) -> None:
            reached.set()
            released.wait(30)

        monkeypatch.setattr(client.services.videos, "frames", read)
    else:
        client.engine.enqueue("yes", probabilities=(1.0, 0.0), hold=released)
        reached = client.engine.generating
    call = client.make_call("analyze_video", {"video_path": path, "query": "a"})
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(client.toolbox.run(call)))
    thread.start()
    assert reached.wait(10)
    call.cancellation.set()
    thread.join(10)
    assert not thread.is_alive()
    released.set()
    assert results[0]["isError"]


def test_progress_counts_the_frames_of_each_phase(client: Client, path: str) -> None:
    decide(client, 0.9, 0.9)
    client.engine.enqueue(delay_s=0.3)
    client.engine.enqueue(delay_s=0.3)
    client.run(
        "analyze_video",
        {"video_path": path, "query": "a", "max_frames": 2, "per_frame": True},
        progress_token=1,
        revision="2025-11-25",
    )
    told = [sent["params"] for sent in client.sent if sent["method"] == "notifications/progress"]
    steps = [(each["progress"], each["total"], each["message"].partition(": ")[2]) for each in told if "total" in each]
    assert (2, 4, "2 of 2 frames checked") in steps
    assert steps[-1][:2] == (4, 4)
    values = [each["progress"] for each in told]
    assert values == sorted(set(values))


# Jobs


def test_an_analysis_goes_on_when_its_call_has_to_be_answered(client: Client, path: str) -> None:
    go_on = threading.Event()
    decide(client, 0.9, 0.1)
    client.engine.enqueue("one")
    client.engine.enqueue("two", hold=go_on)
    running = client.run(
        "analyze_video", {"video_path": path, "query": "a", "max_frames": 2, "per_frame": True, "wait_s": 0.5}
    )
    first = structured(running)
    jsonschema.Draft202012Validator(OUTPUT_SCHEMAS["analyze_video"]).validate(first)
    assert (first["status"], first["answer"], first["error"]) == ("running", None, None)
    assert first["found"] == [{"start_s": 0.0, "end_s": 2.0, "probability": 0.9}]
    assert first["job_id"] in running["content"][0]["text"]
    assert "job_status" in running["content"][0]["text"]
    (listed,) = client.result("list_jobs").jobs
    assert (listed.kind, listed.about, listed.status) == ("watching", path, "running")
    go_on.set()
    done = client.run("job_status", {"job_id": first["job_id"], "wait_s": 30})
    result = json.loads(done["content"][0]["text"])
    jsonschema.Draft202012Validator(OUTPUT_SCHEMAS["analyze_video"]).validate(result)
    assert (result["status"], result["answer"]) == ("done", "reply")
    assert [frame["description"] for frame in result["frames"]] == ["one", "two"]


def test_a_job_that_is_cancelled_leaves_the_engine_and_the_budget(client: Client, path: str) -> None:
    client.engine.enqueue("yes", probabilities=(1.0, 0.0), hold=threading.Event())
    arguments = {"video_path": path, "query": "a", "max_frames": 1, "wait_s": 0.2}
    job_id = structured(client.run("analyze_video", arguments))["job_id"]
    assert client.services.budget.held_bytes > 0
    assert client.result("cancel_batch", {"batch_id": job_id}).status == "cancelled"
    assert client.services.budget.held_bytes == 0
    (block,) = client.run("job_status", {"job_id": job_id})["content"]
    assert json.loads(block["text"])["status"] == "cancelled"
    assert watch(client, path, max_frames=1)["answer"] == "reply"


def test_a_job_that_is_cancelled_before_it_begins_holds_nothing(client: Client, path: str) -> None:
    go_on = threading.Event()
    client.engine.enqueue("yes", probabilities=(1.0, 0.0), hold=go_on)
    arguments = {"video_path": path, "query": "a", "max_frames": 1, "wait_s": 0.2}
    first, second = (structured(client.run("analyze_video", arguments))["job_id"] for _ in range(2))
    held = client.services.budget.held_bytes
    assert client.result("cancel_batch", {"batch_id": second}).status == "cancelled"
    assert client.services.budget.held_bytes == held // 2
    go_on.set()
    client.run("job_status", {"job_id": first, "wait_s": 30})
    assert client.services.budget.held_bytes == 0


def test_a_job_that_fails_says_why(client: Client, path: str) -> None:
    client.engine.enqueue(raises=EngineDied("The engine stopped working."), delay_s=0.3)
    arguments = {"video_path": path, "query": "a", "max_frames": 1, "wait_s": 0.1}
    job_id = structured(client.run("analyze_video", arguments))["job_id"]
    assert client.error("job_status", {"job_id": job_id, "wait_s": 30}) == "The engine stopped working."
    assert client.services.budget.held_bytes == 0


def test_an_ended_job_keeps_no_frames(client: Client, path: str) -> None:
    job_id = watch(client, path, max_frames=3)["job_id"]
    plan = client.services.jobs.find(job_id).plan
    assert (plan.frames, plan.analysis, plan.audio) == ([], None, None)
    assert client.services.budget.held_bytes == 0


# Speech


@pytest.fixture
def spoken(tmp_path: Path) -> str:
    """A video of a second with sound."""
    (tmp_path / "spoken.mp4").write_bytes(video_file(audio="aac"))
    return str(tmp_path / "spoken.mp4")


@pytest.fixture
def hearing(make_client: MakeClient) -> Client:
    """A client with a speech model, whose engine is there."""
    client = make_client(VLLM_ASR_MODEL="/models/ears", VLLM_MAX_IMAGES_PER_PROMPT="1")
    client.services.models.engine("ears")
    return client


def say(client: Client, text: str, **options: Any) -> None:
    """Queues what the speech model says of one window: its language, then the text."""
    client.engines["ears"].enqueue("", language_probabilities={"en": 0.96, "de": 0.04}, no_speech_prob=0.1)
    client.engines["ears"].enqueue(text, **options)


def test_what_is_said_is_in_the_result_and_in_the_prompt(hearing: Client, spoken: str) -> None:
    say(hearing, "<|0.00|> It is red.<|0.40|><|0.40|> It is blue.<|1.00|>")
    result = watch(hearing, spoken, max_frames=2, include_speech=True)
    assert result["speech"] == {
        "text": "It is red. It is blue.",
        "language": "en",
        "segments": [
            {"start_s": 0.0, "end_s": 0.4, "text": "It is red."},
            {"start_s": 0.4, "end_s": 1.0, "text": "It is blue."},
        ],
        "model": "ears",
        "error": None,
    }
    answer = texts_of(hearing.engine.conversations[-1])[0][1]
    assert "What is said in the video:\nFrom 0 s to 0.4 s: It is red.\nFrom 0.4 s to 1 s: It is blue." in answer
    assert "It is red" not in texts_of(hearing.engine.conversations[0])[0][1]


def test_what_is_said_outside_the_span_is_left_out(hearing: Client, spoken: str) -> None:
    say(hearing, "<|0.00|> It is red.<|0.40|><|0.40|> It is blue.<|1.00|>")
    result = watch(hearing, spoken, max_frames=2, include_speech=True, start_s=0.5)
    assert result["speech"]["text"] == "It is blue."


def test_speech_is_not_transcribed_if_not_wanted(hearing: Client, spoken: str) -> None:
    assert watch(hearing, spoken, max_frames=2)["speech"] is None
    assert not hearing.engines["ears"].windows


def test_a_video_without_sound_is_looked_at_all_the_same(hearing: Client, path: str) -> None:
    result = watch(hearing, path, max_frames=2, include_speech=True)
    assert result["speech"]["error"] == "The video has no audio track."
    assert result["answer"] == "reply"
    assert hearing.engines["ears"].n_loads == 0


def test_a_speech_model_that_fails_leaves_the_frames_alone(hearing: Client, spoken: str) -> None:
    hearing.engines["ears"].load_error = GenerationFailed("The folder has no weights.")
    result = watch(hearing, spoken, max_frames=2, include_speech=True)
    assert result["speech"] == {
        "text": "",
        "language": None,
        "segments": [],
        "model": None,
        "error": "The folder has no weights.",
    }
    assert result["answer"] == "reply"


def test_without_a_speech_model_the_error_says_how_to_name_one(client: Client, spoken: str) -> None:
    text = client.error("analyze_video", {"video_path": spoken, "query": "a", "include_speech": True})
    assert text.startswith("arguments.include_speech: no speech model is configured. Set VLLM_ASR_MODEL")
    assert client.engine.n_loads == 0


def test_at_the_deadline_there_is_what_was_said_so_far(hearing: Client, spoken: str) -> None:
    say(hearing, "<|0.00|> It is", hold=threading.Event())
    result = watch(hearing, spoken, max_frames=2, include_speech=True, timeout_s=2)
    assert "time was up; what is said after" in result["speech"]["error"]
    assert all("time was up" in frame["error"] for frame in result["frames"])
    assert result["found"] is None
