"""Answers of a user to the question of a call."""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from mcp_protocol.jsonrpc import Json

ANSWER_S = 120.0
"""Time for an answer, where the call has no earlier deadline."""
MAX_ANSWER_BYTES = 16_384
"""The longest answer, because earlier answers of a call are part of the state that the client holds."""


class Action(enum.Enum):
    """What the user did."""

    ACCEPTED = "accept"
    DECLINED = "decline"
    CANCELLED = "cancel"
    NOT_ASKED = "not asked"
    """The client cannot be asked: it does not declare forms, or the setting VLLM_ASK is "never"."""


class Answer(msgspec.Struct, frozen=True):
    """The user's answer; `content` has the values of the form if it was accepted."""

    action: Action
    content: Json = {}


class GivenAnswer(msgspec.Struct, frozen=True):
    """What a client sent, unchecked, for the question with this digest: a response, or why there is none."""

    digest: str
    response: Any = None
    error: str | None = None


class Retry(msgspec.Struct, frozen=True):
    """What the request of a stateless client brings, unchecked: `requestState` and `inputResponses`."""

    state: Any
    responses: Any


def retry_of(params: Json) -> Retry | None:
    """The answers that the parameters of a request bring; None if there are none."""
    if "requestState" not in params and "inputResponses" not in params:
        return None
    return Retry(params.get("requestState"), params.get("inputResponses"))


class AnswerError(Exception):
    """The answer is invalid; `str()` says why."""
