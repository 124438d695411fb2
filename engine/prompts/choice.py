"""Generates one word out of a few, with the probability of each.

The model generates one token, which must begin one of the words. vLLM takes the log-probabilities before it applies
`allowed_token_ids` (but after a grammar's mask), so they are the model's own, also for words that it did not choose.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from engine.errors import InvalidGeneration
from engine.interface import Completion, FinishReason, TokenLogprob

MAX_ALTERNATIVES = 20
"""vLLM's limit of log-probabilities per token (`max_logprobs`)."""

# The space before a word in byte-level and SentencePiece vocabularies.
_SPACES = ("", " ", "Ġ", "▁")


class Choices:
    """Makes a loaded model choose among words.

    Arguments:
        llm: vLLM's `LLM`; its tokenizer shows which tokens begin a word.
    """

    def __init__(self, llm: Any) -> None:
        self._llm = llm
        self._beginnings: dict[tuple[str, ...], tuple[tuple[int, ...], ...]] = {}

    def limit(self, params: Any, words: tuple[str, ...]) -> Any:
        """Limits vLLM's sampling parameters to the words, if there are any.

        Raises: `InvalidGeneration` when the model's tokens do not distinguish the words.
        """
        if not words:
            return params
        token_ids = [token_id for ids in self._beginnings_of(words) for token_id in ids]
        params.temperature = 0.0
        params.max_tokens, params.min_tokens = 1, 0
        params.allowed_token_ids = token_ids
        if hasattr(params, "logprob_token_ids"):
            params.logprob_token_ids = token_ids
        else:  # older vLLM: a word that is not among the likeliest tokens has probability 0
            params.logprobs = MAX_ALTERNATIVES
        return params

    def decide(self, completion: Completion, words: tuple[str, ...], logprobs: Any) -> Completion:
        """The completion with the likeliest word as its text, and the probabilities; unchanged without `words`.

        Arguments:
            logprobs: vLLM's log-probabilities of this completion, by position, then by token.
        """
        if not words or not logprobs:
            return completion
        found = {token_id: entry.logprob for token_id, entry in logprobs[0].items()}
        shares = probabilities(self._beginnings_of(words), found)
        if shares is None:
            return completion
        word = words[max(range(len(words)), key=shares.__getitem__)]
        return dataclasses.replace(
            completion, text=word, finish_reason=FinishReason.STOP, choice_probabilities=shares, logprobs=None
        )

    def _beginnings_of(self, words: tuple[str, ...]) -> tuple[tuple[int, ...], ...]:
        if words not in self._beginnings:
            self._beginnings[words] = beginnings(self._llm.get_tokenizer(), words)
        return self._beginnings[words]


def beginnings(tokenizer: Any, words: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """The tokens that each word may begin with, in any case, with or without a space before it.

    If the tokenizer has tokens for the whole word, only these count, else the first tokens of the word. A token that
    begins two words is left out.

    Raises: `InvalidGeneration` when no token is left for a word.
    """
    found = [_whole_tokens(tokenizer, word) or _first_pieces(tokenizer, word) for word in words]
    owned = []
    for number, ids in enumerate(found):
        others = set().union(*(other for place, other in enumerate(found) if place != number))
        owned.append(tuple(sorted(ids - others)))
    if not all(owned):
        raise InvalidGeneration(f"This model's tokens do not distinguish {' and '.join(words)}.")
    return tuple(owned)


def probabilities(
    beginnings: Iterable[Iterable[int]], logprobs: Mapping[int, float | None]
) -> tuple[float, ...] | None:
    """The words' probabilities, which sum to 1, from their tokens' log-probabilities.

    `None` when no token has a finite log-probability.
    """
    return _shares([[_finite(logprobs.get(token_id)) for token_id in ids] for ids in beginnings])


def probabilities_of_texts(words: Sequence[str], top: Iterable[TokenLogprob]) -> tuple[float, ...] | None:
    """The words' probabilities from the texts of the likeliest tokens, for a remote model without a local tokenizer.

    Tokens that are a whole word count; if there are none, tokens that begin exactly one word. A word without a token
    has probability 0.
    """
    texts = [(entry.token.strip().lstrip("Ġ▁"), _finite(entry.logprob)) for entry in top]
    whole = [[logprob for text, logprob in texts if text in spellings(word)] for word in words]
    if not any(whole):
        begun = [(words_begun(text, words), logprob) for text, logprob in texts]
        whole = [[logprob for found, logprob in begun if found == [word]] for word in words]
    return _shares(whole)


def words_begun(text: str, words: Iterable[str]) -> list[str]:
    """The words that begin with a text, in one of their spellings."""
    return [word for word in words if text and any(spelling.startswith(text) for spelling in spellings(word))]


def spellings(word: str) -> tuple[str, ...]:
    """The spellings in which a model may write a word."""
    return tuple(dict.fromkeys((word, word.lower(), word.capitalize(), word.upper())))


def _whole_tokens(tokenizer: Any, word: str) -> set[int]:
    unknown = getattr(tokenizer, "unk_token_id", None)
    vocabulary = tokenizer.get_vocab()
    written = [space + spelling for spelling in spellings(word) for space in _SPACES]
    whole = {vocabulary[token] for token in written if token in vocabulary}
    for spelling in spellings(word):
        for text in (spelling, f" {spelling}"):
            ids = tokenizer.encode(text, add_special_tokens=False)
            if len(ids) == 1:
                whole.add(ids[0])
    return whole - {unknown}


def _first_pieces(tokenizer: Any, word: str) -> set[int]:
    pieces = {tuple(tokenizer.encode(spelling, add_special_tokens=False)[:1]) for spelling in spellings(word)}
    return {ids[0] for ids in pieces if ids} - {getattr(tokenizer, "unk_token_id", None)}


def _finite(logprob: float | None) -> float:
    return logprob if logprob is not None and math.isfinite(logprob) else -math.inf


def _shares(logprobs: Iterable[Sequence[float]]) -> tuple[float, ...] | None:
    sums = [_log_sum(values) for values in logprobs]
    total = _log_sum(sums)
    return None if total == -math.inf else tuple(math.exp(value - total) for value in sums)


def _log_sum(values: Sequence[float]) -> float:
    highest = max(values, default=-math.inf)
    if highest == -math.inf:
        return highest
    return highest + math.log(sum(math.exp(value - highest) for value in values))
