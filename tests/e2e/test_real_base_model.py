"""Gemma 3 270M, a real base model, through the real server: without a chat template it would go on with more turns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import real_models
from tests.e2e.server_process import ServerProcess

Json = dict[str, Any]
MAX_TOKENS = 40
ASKED = {
    "a question": (["What is the capital of France?"], "The capital of France is Paris."),
    "a name": (["My name is Marlowe.", "Nice to meet you, Marlowe.", "What is my name?"], "My name is Marlowe."),
    "a pattern": (["What is the capital of France?", "Paris", "What is the capital of Italy?"], "Rome"),
}
"""What users and the model said in turn, and how the model answers; left alone, it goes on with `user:` each time."""


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    settings = {
        "VLLM_MODEL_NAME": real_models.folder("gemma-3-270m"),
        # In bfloat16 two first tokens of "a name" tie, and the processor's instructions decide which one is said.
        "VLLM_DTYPE": "float32",
        "VLLM_MAX_MODEL_LEN": "1024",
        "VLLM_CPU_KVCACHE_SPACE": "0.25",
    }
    with ServerProcess(settings) as process:
        process.initialize()
        yield process


def messages(texts: list[str]) -> list[Json]:
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]


def arguments(texts: list[str]) -> Json:
    return {"messages": messages(texts), "temperature": 0, "max_tokens": MAX_TOKENS}


@pytest.mark.parametrize("name", ASKED)
def test_an_answer_ends_at_its_turn(server: ServerProcess, name: str) -> None:
    texts, expected = ASKED[name]
    request_id = server.send_call("chat_completion", arguments(texts), meta={"progressToken": 1})
    told = ""
    while "id" not in (message := server.read_message()):
        # The first call also tells the phases of loading, in whole sentences and without a total of tokens.
        if message["params"].get("total") == MAX_TOKENS:
            told += message["params"].get("message", "")
    assert message["id"] == request_id
    answer = message["result"]["structuredContent"]
    assert answer["text"] == told == expected
    assert answer["finish_reason"] == "stop"
    assert answer["usage"]["completion_tokens"] < MAX_TOKENS


def test_answers_of_a_batch_end_at_their_turns(server: ServerProcess) -> None:
    batch: Json = {"conversations": [messages(texts) for texts, _ in ASKED.values()]}
    results = server.result("chat_completion_batch", {**batch, "temperature": 0, "max_tokens": MAX_TOKENS})["results"]
    assert [result["text"] for result in results] == [expected for _, expected in ASKED.values()]
    assert {result["finish_reason"] for result in results} == {"stop"}


def test_a_session_recalls_a_name(server: ServerProcess) -> None:
    first, question = arguments(["My dog is called Rex."]), arguments(["What is my dog called?"])
    assert "Rex" not in server.result("chat_completion", {**first, "session_id": "dog"})["text"]
    recalled = server.result("chat_completion", {**question, "session_id": "dog"})["text"]
    assert "Rex" in recalled
    assert "\n" not in recalled
    assert "Rex" not in server.result("chat_completion", question)["text"]


def test_the_prompt_is_plain_lines_after_one_token_of_beginning(server: ServerProcess) -> None:
    from tokenizers import Tokenizer

    texts, _ = ASKED["a pattern"]
    lines = "".join(f"{('user', 'assistant')[n % 2]}: {text}\n" for n, text in enumerate(texts)) + "assistant:"
    tokenizer = Tokenizer.from_file(str(Path(real_models.folder("gemma-3-270m")) / "tokenizer.json"))
    tokens = tokenizer.encode(lines).tokens
    assert (tokens[0], tokens.count("<bos>")) == ("<bos>", 1)
    assert server.result("chat_completion", arguments(texts))["usage"]["prompt_tokens"] == len(tokens)
