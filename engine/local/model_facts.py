"""Facts about a loaded model, from vLLM and its tokenizer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from engine.parts import AUDIO_RATE, NOUNS
from engine.prompts.rendering import SPACE, WORD_JOINER, TokenBreaker


def supported_media(llm: Any) -> frozenset[str]:
    """What the model accepts beside text, in vLLM's words: `image`, `audio`, `video`."""
    if not llm.model_config.is_multimodal_model:
        return frozenset()
    try:
        return frozenset(llm.renderer.get_mm_processor().info.supported_mm_limits).intersection(NOUNS)
    except AttributeError:  # another version of vLLM; it rejects the first image if not
        return frozenset({"image"})


def audio_rate(llm: Any) -> int:
    """The rate in Hz at which the model takes audio."""
    try:
        return int(llm.renderer.get_mm_processor().info.data_parser.audio_resampler.target_sr)
    except (AttributeError, TypeError, ValueError):  # it takes no audio, or any rate
        return AUDIO_RATE


def has_chat_template(llm: Any) -> bool:
    """Whether the model has a chat template."""
    tokenizer = llm.get_tokenizer()
    if not hasattr(tokenizer, "apply_chat_template") or not hasattr(tokenizer, "chat_template"):
        return True  # Mistral's tokenizers have their chat format in code
    try:
        from vllm.renderers.hf import resolve_chat_template

        found = resolve_chat_template(tokenizer, None, None, model_config=llm.model_config)
    except Exception:
        found = tokenizer.chat_template
    return found is not None


def begins_with_bos(llm: Any) -> bool:
    """Whether its prompts begin with the beginning-of-sequence token."""
    tokenizer = llm.get_tokenizer()
    bos = getattr(tokenizer, "bos_token_id", None)
    return bos is not None and tokenizer.encode("a")[:1] == [bos]


def token_breaker(llm: Any, max_images: int) -> TokenBreaker:
    """A `TokenBreaker` for this model's tokens, with a space where its tokenizer drops the invisible joiner."""
    tokenizer = llm.get_tokenizer()
    special = set(_special_tokens(tokenizer))
    tokens = special | set(_placeholders(llm, max_images))
    breaker = TokenBreaker(tokens, WORD_JOINER)
    ids = {tokenizer.convert_tokens_to_ids(token) for token in special if len(token) > 1}
    if ids.intersection(tokenizer.encode(" ".join(map(breaker, sorted(special))), add_special_tokens=False)):
        return TokenBreaker(tokens, SPACE)
    return breaker


def _special_tokens(tokenizer: Any) -> Iterable[str]:
    added = getattr(tokenizer, "added_tokens_decoder", None) or {}
    return {*getattr(tokenizer, "all_special_tokens", ()), *(str(token) for token in added.values() if token.special)}


def _placeholders(llm: Any, max_images: int) -> Iterable[str]:
    """The texts that stand for media in this model's prompts; some of them are not single tokens."""
    try:
        from vllm.model_executor.model_loader import get_model_cls

        model_class = get_model_cls(llm.model_config)
    except Exception:
        return ()
    found = set()
    for kind in NOUNS:
        with contextlib.suppress(Exception):  # a kind that the model does not take
            found |= {model_class.get_placeholder_str(kind, number) for number in range(1, max_images + 1)}
    return {placeholder for placeholder in found if placeholder}
