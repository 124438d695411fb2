"""A window of speech becomes a prompt of Whisper's; its tokens become a text with times."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engine.errors import InvalidGeneration
from engine.interface import Completion, Sampling, SpeechWindow, TokenLogprob
from engine.local.adapter import AddedRequest, EngineAdapter
from engine.local.inputs.speech_inputs import SpeechInputProcessor
from engine.speech.whisper_tokens import RULES_ARGUMENT
from tests.unit.engine.test_whisper_tokens import (
    CONFIG,
    DE,
    EN,
    END,
    FIRST,
    NO_SPEECH,
    NO_TIMES,
    PREVIOUS,
    START,
    TRANSCRIBE,
    TRANSLATE,
    VOCABULARY,
)

pytestmark = pytest.mark.usefixtures("stand_in_for_vllm")
SAMPLES = np.linspace(-1, 1, 32_000, dtype="<f4")
ADDED = AddedRequest("1", "1-internal", [START], None)
SAMPLING = Sampling(0.4, 224, seed=7, logprobs=0)


def tokenizer() -> Any:
    """Its text tokens are the letters' codes."""
    return SimpleNamespace(
        get_vocab=lambda: VOCABULARY,
        encode=lambda text, add_special_tokens: [ord(letter) % 100 for letter in text],
        decode=lambda ids: "".join(chr(96 + number) for number in ids),
    )


def processor(**config: Any) -> SpeechInputProcessor:
    """The inputs of a model that knows English and German."""
    llm = SimpleNamespace(get_tokenizer=tokenizer, model_config=SimpleNamespace(max_model_len=448))
    return SpeechInputProcessor(llm, "whisper", {**CONFIG, **config}.get)


def window(language: str | None = "de", **options: Any) -> SpeechWindow:
    """Two seconds."""
    return SpeechWindow(SAMPLES.tobytes(), SAMPLING, language, **options)


def test_samples_are_not_copied() -> None:
    request = window()
    prepared = processor().prepare(request)
    assert np.array_equal(prepared, SAMPLES)
    assert not prepared.flags.owndata


def test_a_prompt_begins_with_the_start_and_the_rules_force_the_rest() -> None:
    inputs = processor().process(window(translates=True), SAMPLES, "final")
    assert inputs.prompt["decoder_prompt"] == {"prompt_token_ids": [START]}
    assert inputs.prompt["encoder_prompt"]["multi_modal_data"] == {"audio": (SAMPLES, 16_000)}
    params = inputs.params
    rules = params.extra_args[RULES_ARGUMENT]
    assert (rules["forced"], rules["timestamps"], rules["last_time"]) == ([DE, TRANSLATE], True, FIRST + 100)
    assert (params.temperature, params.seed, params.max_tokens) == (0.4, 7, 226)
    assert params.logprob_token_ids == [NO_SPEECH]
    assert (params.detokenize, params.output_kind) == (False, "final")


def test_a_text_without_times_has_their_token() -> None:
    params = processor().process(window("en", timestamps=False), SAMPLES, None).params
    assert params.extra_args[RULES_ARGUMENT]["forced"] == [EN, TRANSCRIBE, NO_TIMES]


def test_the_end_of_a_long_prompt_comes_before_the_start() -> None:
    inputs = processor().process(window(prompt=" a" * 300), SAMPLES, None)
    ids = inputs.prompt["decoder_prompt"]["prompt_token_ids"]
    assert (ids[0], ids[-1], len(ids)) == (PREVIOUS, START, 202)
    assert set(ids[1:-1]) == {ord("a") % 100, ord(" ")}


def test_the_language_is_one_token_of_the_languages() -> None:
    params = processor().process(window(None), SAMPLES, None).params
    assert params.allowed_token_ids == [EN, DE]
    assert params.logprob_token_ids == [EN, DE, NO_SPEECH]
    assert (params.max_tokens, params.temperature) == (1, 0.0)


def test_the_languages_shares_add_up_to_one() -> None:
    first = {EN: SimpleNamespace(logprob=np.log(0.6)), DE: SimpleNamespace(logprob=np.log(0.2))}
    first[NO_SPEECH] = SimpleNamespace(logprob=np.log(0.05))
    found = processor().finish(Completion("x"), window(None), [first])
    assert found.language_probabilities == pytest.approx({"en": 0.75, "de": 0.25})
    assert found.no_speech_prob == pytest.approx(0.05)
    assert found.text == ""


def test_log_probabilities_of_forced_tokens_are_left_out() -> None:
    positions = tuple(TokenLogprob("", -float(number)) for number in range(5))
    first = {DE: SimpleNamespace(logprob=-1.0), NO_SPEECH: SimpleNamespace(logprob=np.log(0.3))}
    found = processor().finish(Completion("x", logprobs=positions), window(), [first, {}, {}])
    assert [entry.logprob for entry in found.logprobs or ()] == [-2.0, -3.0, -4.0]
    assert found.no_speech_prob == pytest.approx(0.3)


def test_without_an_output_nothing_is_known() -> None:
    found = processor().finish(Completion(), window(), None)
    assert (found.no_speech_prob, found.logprobs) == (None, ())


def test_the_text_is_made_of_the_tokens_behind_the_forced_ones() -> None:
    parser = processor().process(window(), SAMPLES, None).parser
    assert parser.parse("", [DE, TRANSCRIBE, FIRST, 1, 2, FIRST + 50, END], []).text == "<|0.00|>ab<|1.00|>"


def test_a_language_that_the_model_does_not_know_is_refused() -> None:
    with pytest.raises(InvalidGeneration, match=r"The model whisper knows these languages: en, de\. Name another"):
        processor().prepare(window("fr"))
    with pytest.raises(InvalidGeneration, match="knows English only"):
        processor(is_multilingual=False).prepare(window("de"))
    assert len(processor(is_multilingual=False).prepare(window("en"))) == 32_000


def test_a_model_of_english_only_knows_the_language() -> None:
    english = processor(is_multilingual=False)
    assert english.process(window(None), SAMPLES, None).params.allowed_token_ids is None
    assert english.finish(Completion("x"), window(None), None).language_probabilities == {"en": 1.0}


def test_a_window_is_added_as_a_prompt() -> None:
    added: list[Any] = []
    llm = SimpleNamespace(
        llm_engine=SimpleNamespace(engine_core=None),
        added_request=ADDED,
        enqueue=lambda *given, use_tqdm: added.append((given, use_tqdm)),
    )
    inputs = processor().process(window(), SAMPLES, None)
    assert inputs.added_to(EngineAdapter(llm)) is ADDED
    assert added == [(([inputs.prompt], [inputs.params]), False)]
