"""Many conversations in one batch, and the properties of the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from engine.errors import GenerationFailed
from tests.unit.handlers.chat_calls import OUTPUT_SCHEMAS, structured
from tests.unit.handlers.tool_client import Client, user


def test_batch_answers_in_order_and_one_bad_item_does_not_fail_the_others(client: Client, tmp_path: Path) -> None:
    client.engine.enqueue("A")
    client.engine.enqueue(raises=GenerationFailed("refused"))
    client.engine.enqueue("D", tokens=["D", "D"])
    bad = user([{"type": "image", "path": str(tmp_path / "missing.png")}])
    conversations = [[user("a")], [bad], [user("c")], [user("d")]]
    result = client.run("chat_completion_batch", {"conversations": conversations})
    batch = structured(result)
    jsonschema.Draft202012Validator(OUTPUT_SCHEMAS["chat_completion_batch"]).validate(batch)
    assert [item["index"] for item in batch["results"]] == [0, 1, 2, 3]
    assert [item["text"] for item in batch["results"]] == ["A", None, None, "DD"]
    assert batch["results"][1]["error"].startswith("arguments.conversations[1][0].content[0]: ")
    assert batch["results"][2]["error"] == "refused"
    assert batch["results"][1]["usage"] is None
    assert batch["usage"]["completion_tokens"] == 3
    assert len(client.engine.batches) == 1
    assert json.loads(result["content"][0]["text"]) == batch


def test_batch_whose_items_are_all_bad_asks_the_engine_nothing(client: Client) -> None:
    conversations = [[{"role": "assistant", "content": "x"}]] * 2
    batch = client.result("chat_completion_batch", {"conversations": conversations})
    assert all(item.error.startswith("arguments.conversations[") for item in batch.results)
    assert client.engine.batches == []


def test_batch_shares_its_sampling(client: Client) -> None:
    client.result("chat_completion_batch", {"conversations": [[user("a")], [user("b")]], "seed": 3, "max_tokens": 5})
    assert {conversation.sampling.seed for conversation in client.engine.conversations} == {3}


@pytest.mark.parametrize(
    ("conversations", "words"),
    [
        ([], "arguments.conversations: expected array of length >= 1"),
        ([[]], "arguments.conversations[0]: expected array of length >= 1"),
        ([[user("x")]] * 257, "arguments.conversations: expected array of length <= 256"),
        ([[user("x")], [{"content": "x"}]], "arguments.conversations[1][0]: object missing required field role"),
    ],
)
def test_wrong_batch_is_refused(client: Client, conversations: Any, words: str) -> None:
    assert client.error("chat_completion_batch", {"conversations": conversations}).startswith(words)


def test_batch_tells_its_tokens_as_progress(client: Client) -> None:
    conversations = [[user("a")], [user("b")]]
    client.result("chat_completion_batch", {"conversations": conversations, "max_tokens": 7}, progress_token="t")
    (last,) = [message["params"] for message in client.sent if message["params"].get("total")][-1:]
    assert last["total"] == 14


# What is known of the model


def test_model_info_tells_without_loading(client: Client) -> None:
    result = client.run("model_info")
    info = structured(result)
    jsonschema.Draft202012Validator(OUTPUT_SCHEMAS["model_info"]).validate(info)
    assert (info["server_state"], info["model_name"]) == ("unloaded", "fake-model")
    assert info["dtype"] is None
    assert info["max_model_len"] is None
    assert info["active_sessions"] == 0
    assert info["default_temperature"] == 0.7
    assert info["gpu_memory_utilization"] == 0.9
    assert client.engine.n_loads == 0


def test_model_info_knows_more_after_a_load(client: Client) -> None:
    client.chat(session_id="s")
    info = client.result("model_info")
    assert (info.server_state, info.dtype, info.max_model_len, info.active_sessions) == ("ready", "float32", 2048, 1)
