"""LoRA adapters with the real engine: two of different rank on top of the bundled model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.images import asked, drawn, image_part
from tests.e2e.server_process import ServerProcess
from tests.e2e.tiny_adapters import random_adapter

Json = dict[str, Any]
QUESTION: Json = {"messages": [{"role": "user", "content": "Hello"}], "temperature": 0, "max_tokens": 24}


@pytest.fixture(scope="module")
def server(model: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with the adapters `loud` (rank 4) and `my tone` (rank 9)."""
    folder = tmp_path_factory.mktemp("adapters")
    base = Path(model["VLLM_MODEL_NAME"])
    adapters = {
        "loud": str(random_adapter(base, folder / "loud", rank=4, seed=1)),
        "my tone": str(random_adapter(base, folder / "tone", rank=9, seed=2)),
    }
    with ServerProcess({**model, "VLLM_LORA_MODULES": json.dumps(adapters)}) as process:
        process.initialize()
        yield process


def text(server: ServerProcess, **arguments: Any) -> str:
    return str(server.result("chat_completion", {**QUESTION, **arguments})["text"])


def load_error(server: ServerProcess) -> str:
    result = server.call("chat_completion", QUESTION)["result"]
    assert result["isError"], result
    return str(result["content"][0]["text"])


def test_each_adapter_answers_otherwise_and_the_model_stays_as_it_was(server: ServerProcess) -> None:
    plain = text(server)
    loud, tone = text(server, lora="loud"), text(server, lora="my tone")
    assert len({plain, loud, tone}) == 3
    assert [text(server), text(server, lora="loud"), text(server, lora="my tone")] == [plain, loud, tone]


def test_model_answers_as_without_the_setting(server: ServerProcess, demo_server: ServerProcess) -> None:
    assert text(server) == text(demo_server)


def test_adapter_holds_for_a_batch_with_images_and_while_streaming(server: ServerProcess) -> None:
    image = asked("What is in this image?", image_part(drawn()))
    batch = {"conversations": [QUESTION["messages"], image], "temperature": 0, "max_tokens": 24}
    plain, loud = (
        [item["text"] for item in server.result("chat_completion_batch", {**batch, **more})["results"]]
        for more in ({}, {"lora": "loud"})
    )
    assert loud[0] == text(server, lora="loud")
    assert plain[1] != loud[1] == text(server, lora="loud", messages=image)
    streamed = server.call("chat_completion", {**QUESTION, "lora": "loud"}, meta={"progressToken": 1})
    assert streamed["result"]["structuredContent"]["text"] == loud[0]


def test_adapters_are_listed_and_an_unknown_one_is_refused(server: ServerProcess) -> None:
    assert server.result("model_info")["lora_modules"] == ["loud", "my tone"]
    result = server.call("chat_completion", {**QUESTION, "lora": "quiet"})["result"]
    assert result["isError"]
    (block,) = result["content"]
    assert block["text"] == "arguments.lora: there is no adapter 'quiet'; there are loud, my tone"


def test_adapter_of_another_model_is_named_when_the_model_loads(model: dict[str, str], tmp_path: Path) -> None:
    folder = random_adapter(Path(model["VLLM_MODEL_NAME"]), tmp_path / "other", rank=4, seed=1, hidden_size=48)
    with ServerProcess({**model, "VLLM_LORA_MODULES": f"other={folder}"}) as server:
        server.initialize()
        named = f"Failed to initialize vLLM: the adapter other={folder} cannot be used: "
        assert load_error(server).startswith(f"{named}its weights are not made for a model of width ")
        (folder / "adapter_model.safetensors").write_bytes(b"these are no weights")
        text = load_error(server)
        assert text.startswith(named)
        assert "Traceback" not in text
        assert server.result("model_info")["server_state"] == "failed"
