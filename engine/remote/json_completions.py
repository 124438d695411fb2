"""Checks JSON completions from servers that may not enforce response_format."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace

from engine.errors import GenerationFailed
from engine.interface import Completion, Conversation
from engine.prompts.structured_outputs import is_broken
from engine.remote.accumulator import MAX_QUOTED_CHARACTERS

_FENCED = re.compile(r"\A\s*(?:<think>.*?</think>\s*)?```(?:json)?\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL | re.IGNORECASE)


def checked_json(conversations: Sequence[Conversation], completions: Sequence[Completion]) -> list[Completion]:
    """The completions with JSON taken out of Markdown code blocks; invalid JSON becomes an error with the text.

    Raises: `GenerationFailed` where there is only one completion.
    """
    checked = [_checked(*pair) for pair in zip(conversations, completions, strict=True)]
    if len(checked) == 1 and checked[0].error is not None and completions[0].error is None:
        raise GenerationFailed(checked[0].error)
    return checked


def _checked(conversation: Conversation, completion: Completion) -> Completion:
    if not is_broken(conversation, completion):
        return completion
    fenced = _FENCED.match(completion.text)
    if fenced is not None and _is_json(fenced[1]):
        return replace(completion, text=fenced[1], logprobs=None)
    text = completion.text.strip()[:MAX_QUOTED_CHARACTERS]
    error = (
        "The server's response is not the JSON that response_format asks for; it may not support response_format. "
        + (f"The response was: {text}" if text else "The response was empty.")
    )
    return replace(completion, text="", logprobs=None, error=error)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
