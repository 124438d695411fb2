"""Log-probabilities of the real engine: alone, in batches, while streaming and when the time is up."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.server_process import ServerProcess

Json = dict[str, Any]
QUESTION: Json = {"messages": [{"role": "user", "content": "Hello"}], "temperature": 0, "max_tokens": 24}
ENDLESS: Json = {"max_tokens": 4000, "min_tokens": 4000, "ignore_eos": True}


def content(answer: Json, n_top: int) -> list[Json]:
    """The answer's log-probabilities, one for each token, with so many alternatives."""
    entries: list[Json] = answer["logprobs"]["content"]
    assert len(entries) == answer["usage"]["completion_tokens"]
    assert "".join(entry["token"] for entry in entries).startswith(answer["text"])
    for entry in entries:
        tops = entry["top_logprobs"]
        assert len(tops) == n_top
        assert [top["logprob"] for top in tops] == sorted((top["logprob"] for top in tops), reverse=True)
        for token in (entry, *tops):
            assert token["logprob"] <= 0
            assert bytes(token["bytes"]).decode() == token["token"]
    return entries


@pytest.mark.parametrize("n_top", [0, 1, 20])
def test_likeliest_tokens_are_those_of_a_greedy_answer(demo_server: ServerProcess, n_top: int) -> None:
    answer = demo_server.result("chat_completion", {**QUESTION, "logprobs": True, "top_logprobs": n_top})
    for entry in content(answer, n_top):
        if n_top:
            assert {**entry["top_logprobs"][0], "top_logprobs": entry["top_logprobs"]} == entry


def test_without_asking_there_are_none(demo_server: ServerProcess) -> None:
    assert demo_server.result("chat_completion", QUESTION)["logprobs"] is None


def test_same_while_streaming_and_in_a_batch(demo_server: ServerProcess) -> None:
    how: Json = {**QUESTION, "logprobs": True, "top_logprobs": 3}
    whole = demo_server.result("chat_completion", how)
    streamed = demo_server.call("chat_completion", how, meta={"progressToken": 1})["result"]["structuredContent"]
    conversations = [how.pop("messages")] * 3
    batch = demo_server.result("chat_completion_batch", {**how, "conversations": conversations})["results"]
    tokens = [entry["token"] for entry in content(whole, 3)]
    figures = [entry["logprob"] for entry in content(whole, 3)]
    for other in (streamed, *batch):
        assert [entry["token"] for entry in content(other, 3)] == tokens
        # Batches of other sizes add up in another order.
        assert [entry["logprob"] for entry in content(other, 3)] == pytest.approx(figures, abs=0.05)


@pytest.mark.parametrize("meta", [None, {"progressToken": 1}], ids=["whole", "streamed"])
def test_answer_whose_time_was_up_has_those_of_its_text(demo_server: ServerProcess, meta: Json | None) -> None:
    arguments = {**QUESTION, **ENDLESS, "timeout_s": 0.4, "logprobs": True, "top_logprobs": 2}
    answer = demo_server.call("chat_completion", arguments, meta=meta)["result"]["structuredContent"]
    assert answer["finish_reason"] == "timeout"
    assert content(answer, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"top_logprobs": 2}, "arguments.top_logprobs: needs logprobs to be true"),
        ({"logprobs": True, "top_logprobs": 21}, "arguments.top_logprobs: expected int <= 20"),
        ({"prompt_logprobs": 1}, "arguments.prompt_logprobs: there is no such argument."),
    ],
)
def test_wrong_arguments_are_refused(demo_server: ServerProcess, arguments: Json, words: str) -> None:
    result = demo_server.call("chat_completion", {**QUESTION, **arguments})["result"]
    assert result["isError"]
    assert result["content"][0]["text"].startswith(words)
