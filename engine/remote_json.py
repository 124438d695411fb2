"""Answers that had to be JSON, from servers that may not know how to make sure of that."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace

from engine.errors import GenerationFailed
from engine.interface import Completion, Conversation
from engine.structured import is_broken

MOST_KEPT_CHARACTERS = 20_000
_FENCED = re.compile(r"\A\s*(?:<think>.*?</think>\s*)?```(?:json)?\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL | re.IGNORECASE)


def checked_json(conversations: Sequence[Conversation], completions: Sequence[Completion]) -> list[Completion]:
    """The completions: JSON between the marks of a code block is taken out of them, and what is no JSON though it had
    to be is an error that holds the answer.

    Raises: `GenerationFailed` where there is only one.
    """
    found = [_checked(*pair) for pair in zip(conversations, completions, strict=True)]
    if len(found) == 1 and found[0].error is not None and completions[0].error is None:
        raise GenerationFailed(found[0].error)
    return found


def _checked(conversation: Conversation, completion: Completion) -> Completion:
    if not is_broken(conversation, completion):
        return completion
    fenced = _FENCED.match(completion.text)
    if fenced is not None and _is_json(fenced[1]):
        return replace(completion, text=fenced[1], logprobs=None)
    text = completion.text.strip()[:MOST_KEPT_CHARACTERS]
    error = "The server's answer is not the JSON that response_format asks for; it may not know response_format. " + (
        f"The answer was: {text}" if text else "The answer was empty."
    )
    return replace(completion, text="", logprobs=None, error=error)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
