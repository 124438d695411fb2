"""Other kinds of models than the bundled one: what the vision tools ask, answered by real vLLM."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.interface import Completion, Control, Conversation, FinishReason, ImagePart, Message, Sampling, TextPart
from engine.local.engine import LocalEngine
from handlers.vision.analysis import relevance_check
from handlers.vision.prompts import analysis_prompt
from handlers.yes_no import YES_NO, probability_of
from settings import EngineSettings
from tests.e2e import tiny_architectures, tiny_models
from tests.e2e.images import drawn, png

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed here"),
    pytest.mark.filterwarnings("ignore"),  # of the libraries that vLLM brings
]

MODELS: dict[str, Callable[[], Path]] = {
    "Idefics3": tiny_models.vision_model,
    "BLIP-2": tiny_architectures.blip2,
    "Aria": tiny_architectures.aria,
}
COLOURS = ("red", "green", "blue", "yellow")


@pytest.fixture(scope="module", params=MODELS)
def engine(request: pytest.FixtureRequest) -> Iterator[LocalEngine]:
    folder = str(MODELS[request.param]())
    loaded = LocalEngine(EngineSettings(model_name=folder, cpu_kvcache_space_gib=0.125), log_level="ERROR")
    loaded.load()
    yield loaded
    loaded.release()  # `close` leaves vLLM's state to the end of the process
    loaded.close()


def part(colour: str) -> ImagePart:
    image = drawn("white", "circle", colour)
    return ImagePart(image, hashlib.sha256(png(image)).hexdigest())


def vision_encodings(engine: LocalEngine, conversations: list[Conversation]) -> tuple[list[Completion], int]:
    """The completions, and how many images the vision tower encoded for them."""
    assert engine._model is not None
    core = engine._model.llm.llm_engine.engine_core.engine_core
    model = core.model_executor.driver_worker.worker.model_runner.model
    (tower,) = [module for name, module in model.named_modules() if name.endswith(("vision_model", "vision_tower"))][:1]
    encoded: list[int] = []

    def count(module: Any, inputs: Any, output: Any) -> None:
        found = output if hasattr(output, "shape") else output[0]
        encoded.append(found.shape[0])

    hook = tower.register_forward_hook(count)
    try:
        return engine.generate(conversations, Control()), sum(encoded)
    finally:
        hook.remove()


def test_relevance_has_a_probability_with_any_tokenizer(engine: LocalEngine) -> None:
    checks = [relevance_check(part(colour), "red circle", None) for colour in COLOURS]
    completions = engine.generate(checks, Control())
    for completion in completions:
        assert completion.error is None
        assert completion.text in YES_NO
        assert completion.completion_tokens == 1
        assert completion.choice_probabilities is not None
        assert sum(completion.choice_probabilities) == pytest.approx(1)
        probability = probability_of(completion)
        assert probability is not None
        assert 0 <= probability <= 1
        assert (completion.text == "yes") is (probability >= 0.5)
    assert len({completion.choice_probabilities for completion in completions}) > 1


def test_one_check_alone_agrees_with_the_batch(engine: LocalEngine) -> None:
    checks = [relevance_check(part(colour), "a blue square", "from a book") for colour in COLOURS[:2]]
    together = [probability_of(completion) for completion in engine.generate(checks, Control())]
    alone = [probability_of(engine.generate([check], Control())[0]) for check in checks]
    assert alone == pytest.approx(together, abs=0.05)


def test_images_and_text_are_answered(engine: LocalEngine) -> None:
    conversations = [Conversation(analysis_prompt(part(c), "What is it?", None), Sampling(0.0, 8)) for c in COLOURS]
    text = Conversation((Message("user", (TextPart("Hello"),)),), Sampling(0.0, 8))
    *seen, heard = engine.generate([*conversations, text], Control())
    assert all(completion.error is None and (completion.image_tokens or 0) > 0 for completion in seen)
    assert heard.image_tokens == 0
    assert {completion.finish_reason for completion in (*seen, heard)} <= {FinishReason.STOP, FinishReason.LENGTH}


def test_an_image_that_was_checked_is_not_encoded_again(engine: LocalEngine) -> None:
    images = [part(colour) for colour in ("orange", "purple", "pink")]
    _, encoded = vision_encodings(engine, [relevance_check(image, "red circle", None) for image in images])
    analyses = [Conversation(analysis_prompt(image, "What is it?", None), Sampling(0.0, 4)) for image in images]
    _, encoded_again = vision_encodings(engine, analyses)
    assert (encoded, encoded_again) == (3, 0)


def test_nothing_was_compiled_for_the_log_probabilities(engine: LocalEngine) -> None:
    from torch._dynamo.utils import counters

    engine.generate([relevance_check(part("red"), "red circle", None)], Control())
    assert counters["stats"]["unique_graphs"] == 0
