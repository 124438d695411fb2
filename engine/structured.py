"""Answers in a form: what vLLM is told of it, and what becomes of an answer that broke off."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.errors import GenerationFailed
from engine.interface import Completion, Conversation, FinishReason, ResponseFormat
from engine.schema_bounds import bounded

ENGINE_ARGUMENTS: Mapping[str, Any] = {
    # An engine keeps the backend of its first request, so vLLM's "auto" can use one that ignores half of a later
    # schema. This one refuses what it cannot follow. Without the whitespace a small model has no way to never end.
    "structured_outputs_config": {"backend": "guidance", "disable_any_whitespace": True},
}
ANY_OBJECT: dict[str, Any] = {"type": "object"}


def parameters(response_format: ResponseFormat | None) -> Any:
    """The format as vLLM's sampling parameters take it."""
    if response_format is None:
        return None
    from vllm.sampling_params import StructuredOutputsParams

    schema = ANY_OBJECT if response_format.schema is None else response_format.schema
    return StructuredOutputsParams(json=bounded(schema))


def checked(conversations: Sequence[Conversation], completions: Sequence[Completion]) -> list[Completion]:
    """The completions, with an error in place of an answer that ended by itself and is no JSON though it had to be.

    That happens where the backend gives up half-way: it then only lets the model end.

    Raises: `GenerationFailed` where there is only one.
    """
    failed = "The answer broke off before its JSON was complete: the schema is too complex for the engine."
    broken = [is_broken(*pair) for pair in zip(conversations, completions, strict=True)]
    if broken == [True]:
        raise GenerationFailed(failed)
    return [
        replace(completion, text="", logprobs=None, error=failed) if is_wrong else completion
        for completion, is_wrong in zip(completions, broken, strict=True)
    ]


def is_broken(conversation: Conversation, completion: Completion) -> bool:
    """Whether an answer that ended by itself is no JSON though it had to be."""
    if conversation.response_format is None or completion.finish_reason is not FinishReason.STOP or completion.error:
        return False
    try:
        json.loads(completion.text)
    except (ValueError, RecursionError):
        return True
    return False
