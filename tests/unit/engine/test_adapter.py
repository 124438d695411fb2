"""The adapter to vLLM's private parts is the only place that knows them."""

import re
from pathlib import Path

ENGINE = Path(__file__).parents[3] / "engine"
PRIVATE = re.compile(
    r"\b(llm_engine|engine_core|output_processor|request_states|detokenizer|logprobs_processor|outputs_queue|"
    r"utility_results|engine_dead|request_counter|mm_processor_cache)\b"
)


def test_only_the_adapter_uses_what_vllm_does_not_document() -> None:
    users = {path.name for path in ENGINE.rglob("*.py") if PRIVATE.search(path.read_text("utf-8"))}
    assert users == {"adapter.py"}
