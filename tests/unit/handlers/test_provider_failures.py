"""Providers that fail, are slow, or send a key back."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import GenerationCancelled
from sandbox.cancellation import Cancellation
from tests.scripted_openai import (
    MODEL,
    MODELS,
    Route,
    ScriptedOpenAI,
    answers,
    drips,
    echoes_key,
    floods,
    goes_on,
    hangs_up,
    piece,
    refuses,
    said,
    streams,
    usage,
)
from tests.unit.handlers.provider_calls import KEY, TOOL, Json, ask, refusal
from tests.unit.handlers.tool_client import Client

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("route", "text"),
    [
        (
            refuses(401, f"Incorrect API key provided: {KEY}"),
            "does not accept the key (HTTP 401). Set OPENAI_API_KEY",
        ),
        (refuses(403, f"no access for {KEY}"), "refuses this request (HTTP 403): no access for …."),
        (answers(b"", 403), "does not accept the key (HTTP 403). Set OPENAI_API_KEY to"),
        (refuses(404, "The model does not exist."), "Check that gpt-x is a chat model."),
        (refuses(429, "slow down", Retry_After="0"), "too many requests (HTTP 429): slow down. Try again later."),
        (refuses(429, "slow down"), "too many requests (HTTP 429): slow down. Try again later."),
        (refuses(429, "slow down", Retry_After="90"), "It asks to wait 90 s."),
        (refuses(500, "boom"), "failed (HTTP 500): boom. Try again."),
        (hangs_up, "was lost before its response was complete"),
        (streams(piece(content="half")), "was lost before its response was complete"),
        (streams(piece(content="half"), "{no json"), "not what an OpenAI-compatible server sends"),
        (answers(b"{}"), "Check OPENAI_BASE_URL"),
        (answers(b"<html>hi</html>", Content_Type="text/html"), "answered text/html instead of a stream"),
        (floods, "longer than max_tokens allows"),
        (echoes_key(400), "refuses this request (HTTP 400)"),
        (echoes_key(500), "failed (HTTP 500)"),
        (streams({"error": {"message": f"bad key {KEY}", "code": 500}}), "bad key …"),
        (answers(b"", 302, Location=f"http://other.example/?key={KEY}"), "redirects to another address, which is not"),
    ],
)
def test_failure_is_told_and_shows_no_key(
    provider_client: Client,
    server: ScriptedOpenAI,
    route: Route,
    text: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engine.remote.client.FIRST_WAIT_S", 0.02)
    server.script(route)
    with caplog.at_level(logging.DEBUG):
        said_so = refusal(provider_client, model="gpt-x")
    assert text in said_so
    assert KEY not in said_so + caplog.text
    server.script(server.honest)
    assert ask(provider_client, model="gpt-x").text == "one two"


def test_key_is_sent_nowhere_else(provider_client: Client, server: ScriptedOpenAI, lab: ScriptedOpenAI) -> None:
    server.script(answers(b"", 307, Location=f"{lab.url}/v1/chat/completions"))
    assert "is not followed" in refusal(provider_client, model="gpt-x")
    assert f"Bearer {KEY}" not in lab.keys


@pytest.mark.parametrize("cut", [1, 7, 1000])
def test_key_in_an_answer_is_hidden_also_in_progress(provider_client: Client, server: ScriptedOpenAI, cut: int) -> None:
    words = f"Your key is {KEY}, isn't it?"
    pieces = [piece(content=words[start : start + cut]) for start in range(0, len(words), cut)]
    thoughts = piece(reasoning=f"I know {KEY}")
    server.script(streams(thoughts, *pieces, piece("stop"), usage(), "[DONE]", delay_s=0.06 if cut == 7 else 0))
    result = provider_client.run(TOOL, {"prompt": "?", "model": "gpt-x"}, progress_token=1)
    assert result["structuredContent"].text == "Your key is …, isn't it?"
    assert result["structuredContent"].reasoning == "I know …"
    assert KEY not in str(result) + str(provider_client.sent)
    assert "".join(sent["params"].get("message", "") for sent in provider_client.sent).endswith(
        "Your key is …, isn't it?"
    )


def test_key_in_names_of_models_is_hidden(provider_client: Client, server: ScriptedOpenAI) -> None:
    server.models = [f"model-{KEY}"]
    assert KEY not in str(provider_client.run("list_available_providers"))
    assert KEY not in refusal(provider_client, model="gpt-x", provider="openai")


def test_slow_answer_ends_at_the_deadline(provider_client: Client, server: ScriptedOpenAI) -> None:
    server.script(goes_on)
    result = ask(provider_client, model="gpt-x", timeout_s=1.0)
    assert (result.finish_reason, result.text[:3], result.usage) == ("timeout", "on ", None)


def test_silent_server_is_given_up(lab: ScriptedOpenAI, tmp_path: Path, make_client: Callable[..., Client]) -> None:
    entry = {"name": "lab", "base_url": lab.url, "silence_s": 1}
    (tmp_path / "config.json").write_text(json.dumps({"providers": [entry]}))
    lab.script(drips)
    text = refusal(make_client(VLLM_CONFIG_FILE=str(tmp_path / "config.json")), model=MODEL)
    assert "sent nothing for 1 s" in text


def test_cancelled_call_stops_there(provider_client: Client, server: ScriptedOpenAI) -> None:
    server.script(goes_on)
    call = provider_client.make_call(TOOL, {"prompt": "?", "model": "gpt-x"}, progress_token=1)

    def stop_at_text(message: Json) -> None:
        if message["params"].get("message", "").startswith("on "):
            call.cancellation.set()

    call.context.writer.send = stop_at_text  # type: ignore[method-assign]
    assert provider_client.toolbox.run(call)["isError"]


def test_asking_can_be_cancelled(provider_client: Client, server: ScriptedOpenAI) -> None:
    cancellation = Cancellation()

    def cancels_and_drips(*request: Any) -> None:
        cancellation.set()
        drips(*request)

    server.script(cancels_and_drips, path=MODELS)
    with pytest.raises(GenerationCancelled):
        provider_client.services.providers.ask(provider_client.services.providers.all, cancellation)


def test_answer_without_usage_has_none(provider_client: Client, server: ScriptedOpenAI) -> None:
    server.script(streams(piece(content="a"), piece("length"), "[DONE]"))
    result = ask(provider_client, model="gpt-x")
    assert result.usage is None
    assert result.warnings == ["The provider did not report the number of tokens."]


def test_answer_that_was_all_reasoning_says_so(provider_client: Client, server: ScriptedOpenAI) -> None:
    server.script(streams(piece(reasoning="hm"), piece("length"), usage(), "[DONE]"))
    result = ask(provider_client, model="gpt-x")
    assert (result.text, result.reasoning) == ("", "hm")
    assert "before any text was generated" in result.warnings[0]


def test_progress_adds_up_to_the_text(provider_client: Client, server: ScriptedOpenAI) -> None:
    server.script(streams(*said("one", "two", "three"), delay_s=0.06))
    provider_client.run(TOOL, {"prompt": "?", "model": "gpt-x"}, progress_token=1)
    assert "".join(sent["params"].get("message", "") for sent in provider_client.sent) == "one two three"
    assert len(provider_client.sent) > 1
