"""From a window of speech to vLLM's inputs, for models of Whisper's kind."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import InvalidGeneration, PromptTooLong
from engine.interface import Completion, SpeechWindow
from engine.local.adapter import AddedRequest, EngineAdapter
from engine.local.output_parsers import Output, PlainOutputParser
from engine.parts import AUDIO_RATE
from engine.speech import whisper_tokens
from engine.speech.whisper_tokens import RULES_ARGUMENT, WhisperTokens

MAX_PROMPT_TOKENS = 200
"""Of the text that was said before, the last so many tokens count. OpenAI's limit is 223 of the 448 of the context."""


@dataclass(frozen=True, slots=True)
class SpeechInputs:
    """What `LLM.enqueue` takes for one window, and the parser of its output."""

    prompt: dict[str, Any]
    params: Any
    parser: PlainOutputParser

    def added_to(self, adapter: EngineAdapter) -> AddedRequest:
        """Adds the request to the engine; raises what vLLM raises."""
        return adapter.add_prompt(self.prompt, self.params)


class SpeechInputProcessor:
    """Makes vLLM's inputs for one loaded speech model; the sibling of `InputProcessor`.

    Arguments:
        llm: the loaded `vllm.LLM`.
        name: the model's name in replies.
        generation_config: a value of the model's generation settings by its name, `None` where there is none.
    Raises: `EngineUnavailable` where the model's tokenizer lacks Whisper's tokens.
    """

    def __init__(self, llm: Any, name: str, generation_config: Any) -> None:
        self._llm = llm
        self._name = name
        self._tokenizer = llm.get_tokenizer()
        self.tokens = whisper_tokens.find_tokens(self._id, generation_config)

    def prepare(self, request: SpeechWindow) -> Any:
        """The samples as an array; uses no part of the engine, so any thread may call it.

        Raises: `InvalidGeneration` for a language that the model does not know.
        """
        import numpy as np

        languages = self.tokens.languages
        if request.language is not None and request.language not in (languages or ("en",)):
            known = f"these languages: {', '.join(languages)}" if languages else "English only"
            raise InvalidGeneration(f"The model {self._name} knows {known}. Name another model, or another language.")
        return np.frombuffer(request.samples, "<f4")

    def process(self, request: SpeechWindow, samples: Any, output_kind: Any) -> SpeechInputs:
        """The inputs for one window; uses the tokenizer, so one thread at a time may call it.

        Arguments:
            request: what to write down.
            samples: what `prepare` returned for it.
            output_kind: vLLM's `RequestOutputKind`.
        """
        from vllm import SamplingParams

        tokens = self.tokens
        start = [tokens.start]
        options: dict[str, Any]
        if request.language is None:
            ids = list(tokens.languages.values())
            forced: list[int] = []
            options = {"allowed_token_ids": ids or None, "max_tokens": 1, "temperature": 0.0}
        else:
            ids = []
            if request.prompt.strip():
                said = self._tokenizer.encode(" " + request.prompt.strip(), add_special_tokens=False)
                start = [tokens.previous, *said[-MAX_PROMPT_TOKENS:], tokens.start]
            timestamps, duration_s = request.timestamps, len(samples) / AUDIO_RATE
            forced = tokens.forced(request.language, translates=request.translates, timestamps=timestamps)
            rules = whisper_tokens.rules(tokens, forced, timestamps=timestamps, duration_s=duration_s)
            options = {
                "extra_args": {RULES_ARGUMENT: rules},
                "max_tokens": len(forced) + request.sampling.max_tokens,
                "temperature": request.sampling.temperature,
                "seed": request.sampling.seed,
            }
        params = SamplingParams(
            # The log-probabilities are those before the rules: no speech has one although it is never written.
            logprob_token_ids=[*ids, tokens.no_speech],
            detokenize=False,
            output_kind=output_kind,
            **options,
        )
        prompt = {
            "encoder_prompt": {"prompt": "", "multi_modal_data": {"audio": (samples, AUDIO_RATE)}},
            "decoder_prompt": {"prompt_token_ids": start},
        }
        return SpeechInputs(prompt, params, _SpeechOutputParser(tokens, len(forced), self._text_of))

    def finish(self, completion: Completion, request: SpeechWindow, logprobs: Sequence[Any] | None) -> Completion:
        """The completion with what the first position's log-probabilities say; those of forced tokens are left out."""
        tokens = self.tokens
        first: Mapping[int, Any] = logprobs[0] if logprobs else {}
        chances = {token: math.exp(found.logprob) for token, found in first.items()}
        no_speech_prob = chances.get(tokens.no_speech)
        if request.language is None:
            shares = {code: chances.get(number, 0.0) for code, number in tokens.languages.items()} or {"en": 1.0}
            total = sum(shares.values()) or 1.0
            return dataclasses.replace(
                completion,
                text="",
                logprobs=None,
                no_speech_prob=no_speech_prob,
                language_probabilities={code: share / total for code, share in shares.items()},
            )
        forced = tokens.forced(request.language, translates=request.translates, timestamps=request.timestamps)
        return dataclasses.replace(
            completion, logprobs=(completion.logprobs or ())[len(forced) :], no_speech_prob=no_speech_prob
        )

    def too_long(self, inputs: SpeechInputs) -> PromptTooLong:
        """The error for a prompt that vLLM rejected as too long."""
        return PromptTooLong(None, self._llm.model_config.max_model_len)

    def _id(self, text: str) -> int | None:
        number: int | None = self._tokenizer.get_vocab().get(text)
        return number

    def _text_of(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(ids))
        return text


class _SpeechOutputParser(PlainOutputParser):
    """Makes the text with its times out of the tokens, which vLLM does not decode.

    Arguments:
        tokens: the model's special tokens.
        n_forced: how many tokens are no part of the text.
        text_of: the text of tokens.
    """

    def __init__(self, tokens: WhisperTokens, n_forced: int, text_of: Any) -> None:
        self._tokens = tokens
        self._n_forced = n_forced
        self._text_of = text_of

    def parse(self, text: str, token_ids: Sequence[int], prompt_token_ids: Sequence[int]) -> Output:
        """The text with its times."""
        return Output(whisper_tokens.marked_text(token_ids[self._n_forced :], self._tokens, self._text_of))
