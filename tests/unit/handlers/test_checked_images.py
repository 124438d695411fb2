"""Images that are looked at before they are handed over: `check` and `best_of` of `generate_image`."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from engine.errors import EngineUnavailable, GenerationFailed, InvalidGeneration
from engine.interface import EngineState, EngineStatus
from engine.remote.engine import RemoteEngine
from handlers.services import Services
from handlers.yes_no import YES_NO
from settings import read
from tests import scripted_openai
from tests.scripted_omni import ScriptedOmni, answers, refuses
from tests.scripted_openai import ScriptedOpenAI, piece, said, streams, usage
from tests.unit.fake_engine import texts_of
from tests.unit.handlers.image_calls import SMALL, WAIT_S, Json
from tests.unit.handlers.media_answers import blocks, facts
from tests.unit.handlers.tool_client import Client, make_image
from tests.unit.handlers.vision_calls import decide

PROMPT = "a red circle on a blue background"


def made(client: Client, **arguments: Any) -> Json:
    """The facts of a call that succeeds."""
    return facts(client, "generate_image", {"prompt": PROMPT, "seed": 7, **SMALL, **arguments})


def asked(client: Client) -> list[str]:
    """The questions of the only batch."""
    (batch,) = client.engine.batches
    assert all(conversation.choice == YES_NO for conversation in batch)
    return [texts_of(conversation)[0][1] for conversation in batch]


def saved_colour(told: Json) -> int:
    """The seed that the scripted server painted the saved file with."""
    with Image.open(told["file_path"]) as image:
        pixel = image.convert("RGB").getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return int(pixel[0])


def test_a_single_image_is_checked_whole_and_in_parts(omni_client: Client) -> None:
    decide(omni_client, 0.9, 0.8, 0.95)
    told = made(omni_client, check=True)
    assert asked(omni_client) == [
        f"<image> Does this image show '{text}'? Answer yes or no."
        for text in (PROMPT, "a red circle", "a blue background")
    ]
    assert told["check"] == {
        "verdict": "shows the prompt",
        "probability": 0.8,
        "threshold": 0.5,
        "parts": [{"text": "a red circle", "probability": 0.8}, {"text": "a blue background", "probability": 0.95}],
        "model": "fake-model",
    }
    assert "candidates" not in told
    assert "notes" not in told
    assert told["status"] == "success"


def test_an_image_that_misses_its_prompt_is_saved_and_says_so(omni_client: Client) -> None:
    decide(omni_client, 0.7, 0.1, 0.95)
    told = made(omni_client, check=True)
    assert (told["check"]["verdict"], told["check"]["probability"]) == ("misses the prompt", 0.1)
    assert told["notes"] == [
        "The image misses the prompt. Least likely to be seen in it, with the probability: 'a red circle' (0.10)."
    ]
    assert Path(told["file_path"]).exists()


def test_best_of_keeps_the_best_and_reports_all(omni_client: Client, omni: ScriptedOmni, tmp_path: Path) -> None:
    decide(omni_client, 0.9, 0.3, 0.9, 0.8, 0.7, 0.9, 0.6, 0.6, 0.6)
    told = made(omni_client, best_of=3)
    assert len(asked(omni_client)) == 9
    assert sorted(fields["seed"] for fields in omni.generations()) == [7, 8, 9]
    assert [(each["index"], each["seed"], each["probability"], each["chosen"]) for each in told["candidates"]] == [
        (0, 7, 0.3, False),
        (1, 8, 0.7, True),
        (2, 9, 0.6, False),
    ]
    assert [part["probability"] for part in told["candidates"][0]["parts"]] == [0.3, 0.9]
    assert (told["parameters_used"]["seed"], saved_colour(told)) == (8, 8)
    assert told["check"]["probability"] == 0.7
    assert len(list((tmp_path / "out").iterdir())) == 1
    with Image.open(told["file_path"]) as image:
        assert json.loads(image.text["parameters"]) == told["parameters_used"]  # type: ignore[attr-defined]


def test_candidates_draw_their_seeds(omni_client: Client, omni: ScriptedOmni) -> None:
    told = facts(omni_client, "generate_image", {"prompt": "a cat", "best_of": 4, **SMALL})
    seeds = [each["seed"] for each in told["candidates"]]
    assert len(set(seeds)) == 4
    assert sorted(seeds) == sorted(fields["seed"] for fields in omni.generations())


def test_the_seed_of_a_candidate_makes_it_again(omni_client: Client) -> None:
    decide(omni_client, *[0.5] * 3, *[0.9] * 3)
    told = made(omni_client, best_of=2)
    assert saved_colour(made(omni_client, seed=told["candidates"][0]["seed"])) == 7


def test_edits_are_checked_too(omni_client: Client, omni: ScriptedOmni, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(make_image("red"))
    decide(omni_client, *[0.9] * 6)
    told = made(omni_client, best_of=2, image_paths=[str(tmp_path / "a.png")])
    assert told["check"]["verdict"] == "shows the prompt"
    assert [path for _, path, _ in omni.seen].count("/v1/images/edits") == 2


def test_no_more_candidates_at_once_than_allowed(
    make_client: Callable[..., Client], omni: ScriptedOmni, tmp_path: Path
) -> None:
    omni.delay_s = 0.1
    client = make_client(OMNI_URL=omni.url, OMNI_OUTPUT_DIR=str(tmp_path / "out"), OMNI_MAX_CONCURRENT="2")
    batch = facts(client, "batch_generate", {"prompts": ["a"] * 3, "wait_s": 0, **SMALL})
    made(client, best_of=6)
    assert batch["status"] == "running"
    assert omni.max_running == 2


def test_the_other_candidates_are_judged_where_one_fails(omni_client: Client, omni: ScriptedOmni) -> None:
    omni.script(refuses(400, "no"), omni.honest)
    decide(omni_client, *[0.6] * 3, *[0.8] * 3)
    told = made(omni_client, best_of=3)
    failed = [each for each in told["candidates"] if "error" in each]
    assert len(failed) == 1
    assert (failed[0]["probability"], failed[0]["parts"], failed[0]["chosen"]) == (None, [], False)
    assert told["check"]["probability"] == 0.8
    (note,) = told["notes"]
    assert note.startswith(f"Candidate {failed[0]['index']} failed: ")


def test_a_candidate_that_is_no_image_fails_alone(omni_client: Client, omni: ScriptedOmni) -> None:
    omni.script(answers(b'{"data":[{"b64_json":"iVBORw0KGgo="}]}'), omni.honest)
    told = made(omni_client, best_of=2)
    assert [("error" in each) != each["chosen"] for each in told["candidates"]] == [True, True]


def test_where_all_candidates_fail_the_call_fails(omni_client: Client, omni: ScriptedOmni) -> None:
    omni.script(refuses(400, "that is impossible"))
    assert "that is impossible" in omni_client.error("generate_image", {"prompt": "a", "best_of": 2, **SMALL})
    assert omni_client.engine.batches == []


FAILURES: dict[str, Callable[[Client], None]] = {
    "load": lambda client: setattr(client.engine, "load_error", EngineUnavailable("vLLM is not installed.")),
    "blind": lambda client: refuse(client, InvalidGeneration("The model does not accept images.")),
    "failed": lambda client: refuse(client, GenerationFailed("The engine gave this request up.")),
    "undecided": lambda client: None,
    "defect": lambda client: setattr(client.engine, "generate", lambda *_: 1 / 0),
}


def refuse(client: Client, error: Exception) -> None:
    for _ in range(9):
        client.engine.enqueue(raises=error)


@pytest.mark.parametrize("arguments", [{"check": True}, {"best_of": 3}], ids=["check", "best_of"])
@pytest.mark.parametrize("failure", FAILURES)
def test_an_image_that_cannot_be_checked_is_kept(omni_client: Client, failure: str, arguments: Json) -> None:
    FAILURES[failure](omni_client)
    told = made(omni_client, **arguments)
    assert told["check"] is None
    assert (told["status"], saved_colour(told)) == ("success", 7)
    (note,) = told["notes"]
    reasons = {
        "load": "vLLM is not installed.",
        "blind": "The model does not accept images.",
        "failed": "The engine gave this request up.",
        "undecided": "The model gave no probability for yes or no.",
        "defect": "Internal error",
    }
    assert reasons[failure] in note
    if "best_of" in arguments:
        assert note.startswith("The candidates were not compared: ")
        assert note.endswith("The first one was kept.")
        assert [each["probability"] for each in told["candidates"]] == [None] * 3
        assert [each["chosen"] for each in told["candidates"]] == [True, False, False]
    else:
        assert note.startswith("The image was not checked: ")


@pytest.mark.parametrize("one", [{"check": True}, {"best_of": 2}], ids=["check", "best_of"])
def test_a_prompt_of_one_part_is_asked_about_once(omni_client: Client, one: Json) -> None:
    told = made(omni_client, prompt="a cat", **one)
    assert set(asked(omni_client)) == {"<image> Does this image show 'a cat'? Answer yes or no."}
    assert told["check"] is None


def test_candidates_without_an_answer_lose_against_those_with_one(omni_client: Client) -> None:
    omni_client.engine.enqueue(raises=GenerationFailed("lost"))
    decide(omni_client, 0.1)
    told = made(omni_client, prompt="a cat", best_of=2)
    assert [each["chosen"] for each in told["candidates"]] == [False, True]
    assert told["notes"][0] == "Not all candidates could be checked: lost"


@pytest.mark.parametrize("status", [{"supports_images": False}, {"transcribes": True}])
def test_a_model_that_is_known_to_be_blind_is_refused_before_anything_is_made(
    omni_client: Client, omni: ScriptedOmni, status: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = EngineStatus(EngineState.UNLOADED, "whisper", **status)  # type: ignore[arg-type]
    monkeypatch.setattr(omni_client.engine, "status", lambda: known)
    error = omni_client.error("generate_image", {"prompt": "a", "best_of": 2, **SMALL})
    assert error.startswith("arguments.best_of: the chat model whisper cannot look at images")
    assert omni.generations() == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"best_of": 1}, "arguments.best_of: expected int >= 2"),
        ({"best_of": 9}, "arguments.best_of: expected int <= 8"),
        ({"best_of": True}, "arguments.best_of"),
        ({"check": "yes"}, "arguments.check"),
        ({"best_of": 2, "check": False}, "arguments.check: best_of chooses by the check"),
        ({"best_of": 3, "seed": 2**63 - 2}, f"arguments.seed: with best_of 3 it is at most {2**63 - 3}."),
        ({"best_of": 2, "filename": "../x"}, "filename: use a name without folders"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_made(
    omni_client: Client, omni: ScriptedOmni, arguments: Json, text: str
) -> None:
    assert text in omni_client.error("generate_image", {"prompt": "a", **SMALL, **arguments})
    assert omni.generations() == []
    assert omni_client.services.budget.held_bytes == 0


def test_candidates_take_their_bytes_from_the_budget(omni_client: Client, omni: ScriptedOmni) -> None:
    budget = omni_client.services.budget
    budget.max_bytes = 1 << 20
    size = {"width": 256, "height": 256}
    error = omni_client.error("generate_image", {"prompt": "a", "best_of": 8, **size})
    assert error.startswith("arguments.best_of: This needs about 4 MiB of memory")
    assert omni.generations() == []
    facts(omni_client, "generate_image", {"prompt": "a", "best_of": 2, **size})
    assert budget.held_bytes == 0


def test_check_false_is_a_plain_generation(omni_client: Client) -> None:
    told = made(omni_client, check=False)
    assert "check" not in told
    assert omni_client.engine.n_loads == 0


def test_the_job_goes_on_and_has_the_check(omni_client: Client) -> None:
    hold = threading.Event()
    omni_client.engine.enqueue("yes", probabilities=(0.9, 0.1), hold=hold)
    decide(omni_client, 0.8, 0.7, *[0.6] * 3)
    begun = made(omni_client, best_of=2, wait_s=0)
    assert begun["status"] == "running"
    assert omni_client.engine.generating.wait(WAIT_S)
    running = facts(omni_client, "job_status", {"job_id": begun["job_id"]})
    assert (running["status"], running["phase"]) == ("running", "checking 2 images")
    hold.set()
    told = facts(omni_client, "job_status", {"job_id": begun["job_id"], "wait_s": WAIT_S})
    assert (told["status"], told["check"]["probability"]) == ("success", 0.7)
    (job,) = omni_client.result("list_jobs").jobs
    assert (job.kind, job.status, job.total, job.about) == ("image", "succeeded", 1, PROMPT)


def test_progress_tells_candidates_the_load_and_the_check(omni_client: Client, omni: ScriptedOmni) -> None:
    omni.delay_s = 0.1
    decide(omni_client, *[0.6] * 6)
    omni_client.engine.enqueue("yes", delay_s=0.1)
    blocks(
        omni_client,
        "generate_image",
        {"prompt": PROMPT, "best_of": 3, **SMALL},
        progress_token="p",
    )
    told = " | ".join(sent["params"].get("message", "") for sent in omni_client.sent)
    assert "candidate 1 of 3" in told
    assert "checking 3 images" in told


@pytest.mark.parametrize("stage", ["generation", "check"])
def test_a_cancelled_job_stops_and_saves_nothing(
    omni_client: Client, omni: ScriptedOmni, tmp_path: Path, stage: str
) -> None:
    if stage == "generation":
        omni.delay_s = 0.3
    else:
        omni_client.engine.enqueue("yes", hold=threading.Event())
    begun = made(omni_client, best_of=4, wait_s=0)
    if stage == "check":
        assert omni_client.engine.generating.wait(WAIT_S)
    begun_s = time.monotonic()
    cancelled = omni_client.result("cancel_batch", {"batch_id": begun["job_id"]})
    assert (cancelled.status, cancelled.cancelled, cancelled.files_saved) == ("cancelled", 1, [])
    assert time.monotonic() - begun_s < 2
    told = facts(omni_client, "job_status", {"job_id": begun["job_id"]})
    assert told["status"] == "cancelled"
    assert not list((tmp_path / "out").glob("*"))
    assert omni_client.services.budget.held_bytes == 0
    if stage == "generation":
        assert omni_client.engine.n_loads == 0


def test_a_cancelled_call_cancels_the_job(omni_client: Client) -> None:
    omni_client.engine.enqueue("yes", hold=threading.Event())
    call = omni_client.make_call("generate_image", {"prompt": PROMPT, "check": True, **SMALL})
    thread = threading.Thread(target=omni_client.toolbox.run, args=(call,))
    thread.start()
    assert omni_client.engine.generating.wait(WAIT_S)
    call.cancellation.set()
    thread.join(WAIT_S)
    (job,) = omni_client.services.jobs.list()
    assert job.wait(WAIT_S)
    assert job.state == "cancelled"


@pytest.fixture
def remote_client(
    server: ScriptedOpenAI, omni: ScriptedOmni, tmp_path: Path, make_client: Callable[..., Client]
) -> Iterator[Client]:
    """A client whose chat model is on the scripted OpenAI server."""
    chat = {"VLLM_BASE_URL": server.url, "VLLM_REMOTE_API_KEY": "sk-secret-key"}
    client = make_client(OMNI_URL=omni.url, OMNI_OUTPUT_DIR=str(tmp_path / "out"), **chat)
    client.services.engine = engine = Services(read(chat)).engine
    assert isinstance(engine, RemoteEngine)
    yield client
    engine.close()


def test_a_remote_model_is_asked_by_log_probabilities(server: ScriptedOpenAI, remote_client: Client) -> None:
    top = [{"token": "yes", "logprob": -0.1}, {"token": "no", "logprob": -2.5}]
    server.script(streams(piece("stop", [{**top[0], "top_logprobs": top}], content="yes"), usage()))
    told = made(remote_client, best_of=2)
    assert told["check"]["probability"] == pytest.approx(0.917, abs=0.001)
    assert len(server.chats()) == 6
    assert "Does this image show 'a red circle'?" in json.dumps(server.chats())


@pytest.mark.parametrize(
    ("route", "reason"),
    [
        (streams(*said("yes"), usage()), "The model gave no probability for yes or no."),
        (scripted_openai.refuses(400, "This model does not support images."), "does not support images"),
        (scripted_openai.refuses(401, "wrong key"), "key"),
        (scripted_openai.hangs_up, "lost"),
    ],
    ids=["no log-probabilities", "blind", "key", "reset"],
)
def test_a_remote_model_without_an_answer_costs_no_image(
    server: ScriptedOpenAI, remote_client: Client, route: Any, reason: str
) -> None:
    server.script(route)
    told = made(remote_client, check=True)
    assert (told["status"], told["check"]) == ("success", None)
    (note,) = told["notes"]
    assert reason in note
    assert "sk-secret-key" not in note


def test_no_image_tool_needs_the_tools_of_the_chat_model(
    make_client: Callable[..., Client], omni: ScriptedOmni, tmp_path: Path
) -> None:
    client = make_client(OMNI_URL=omni.url, OMNI_OUTPUT_DIR=str(tmp_path), VLLM_TOOLSETS="images")
    decide(client, *[0.9] * 3)
    assert made(client, check=True)["check"]["verdict"] == "shows the prompt"
