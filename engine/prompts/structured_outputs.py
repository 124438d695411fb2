"""Structured outputs: vLLM's parameters, and errors for results that are not valid JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from engine.errors import GenerationFailed
from engine.interface import Completion, Conversation, FinishReason, ResponseFormat
from engine.schemas.bounds import bounded

ENGINE_ARGUMENTS: Mapping[str, Any] = {
    # An engine keeps the backend of its first request, so vLLM's "auto" may use one that ignores half of a later
    # schema. Guidance rejects unsupported schemas. Without whitespace, a small model cannot generate it endlessly.
    "structured_outputs_config": {"backend": "guidance", "disable_any_whitespace": True}
}
ANY_OBJECT: dict[str, Any] = {"type": "object"}


def parameters(response_format: ResponseFormat | None) -> Any:
    """The response format as vLLM's sampling parameters take it."""
    if response_format is None:
        return None
    from vllm.sampling_params import StructuredOutputsParams

    schema = ANY_OBJECT if response_format.schema is None else response_format.schema
    return StructuredOutputsParams(json=bounded(schema))


def checked(conversations: Sequence[Conversation], completions: Sequence[Completion]) -> list[Completion]:
    """The completions, with an error for each that stopped and is not the JSON that its response format demands.

    This happens when the grammar backend fails during generation: it then allows only the end of the text.

    Raises: `GenerationFailed` when this is the only completion.
    """
    failed = "The generated text ended before its JSON was complete: the schema is too complex for the engine."
    broken = [is_broken(*pair) for pair in zip(conversations, completions, strict=True)]
    if broken == [True]:
        raise GenerationFailed(failed)
    return [
        replace(completion, text="", logprobs=None, error=failed) if is_wrong else completion
        for completion, is_wrong in zip(completions, broken, strict=True)
    ]


def is_broken(conversation: Conversation, completion: Completion) -> bool:
    """Whether a completion stopped and is not the JSON that its response format demands."""
    if conversation.response_format is None or completion.finish_reason is not FinishReason.STOP or completion.error:
        return False
    try:
        json.loads(completion.text)
    except (ValueError, RecursionError):
        return True
    return False
