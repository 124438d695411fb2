"""What a loaded model is like, asked of vLLM and of its tokenizer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from engine.rendering import SPACE, WORD_JOINER, TokenBreaker


def supports_images(llm: Any) -> bool:
    """Whether it reads pictures."""
    if not llm.llm_engine.model_config.is_multimodal_model:
        return False
    try:
        return "image" in llm.llm_engine.renderer.get_mm_processor().info.supported_mm_limits
    except AttributeError:  # another vLLM; then the first picture shows it
        return True


def has_chat_template(llm: Any) -> bool:
    """Whether it comes with a template of its own for conversations."""
    tokenizer = llm.get_tokenizer()
    if not hasattr(tokenizer, "apply_chat_template") or not hasattr(tokenizer, "chat_template"):
        return True  # Mistral's own tokenizers carry their format in code
    try:
        from vllm.renderers.hf import resolve_chat_template

        found = resolve_chat_template(tokenizer, None, None, model_config=llm.llm_engine.model_config)
    except Exception:
        found = tokenizer.chat_template
    return found is not None


def begins_with_bos(llm: Any) -> bool:
    """Whether its prompts begin with a token that marks the beginning."""
    tokenizer = llm.get_tokenizer()
    bos = getattr(tokenizer, "bos_token_id", None)
    return bos is not None and tokenizer.encode("a")[:1] == [bos]


def token_breaker(llm: Any, max_images: int) -> TokenBreaker:
    """A breaker for this model's tokens, with a plain space where its tokenizer drops the invisible joiner."""
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
    """The texts that stand for pictures in this model's prompts; some are no tokens of their own."""
    try:
        from vllm.model_executor.model_loader import get_model_cls

        model_class = get_model_cls(llm.llm_engine.model_config)
        found = {model_class.get_placeholder_str("image", number) for number in range(1, max_images + 1)}
    except Exception:
        return ()
    return {placeholder for placeholder in found if placeholder}
