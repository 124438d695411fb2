"""The state of a question between two requests of a stateless client: authenticated, and valid once."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TYPE_CHECKING, Any

import msgspec

from mcp_protocol.calls.answers import ANSWER_S, MAX_ANSWER_BYTES, GivenAnswer, Retry
from mcp_protocol.calls.question import METHOD, Question, digest_of
from mcp_protocol.jsonrpc import INVALID_PARAMS, Json, ProtocolError, encode

if TYPE_CHECKING:
    from mcp_protocol.calls.call import Call

MAX_OPEN = 1_000
"""States that may be open at a time, per client token; the oldest becomes invalid."""
AGAIN = "Call the tool again without requestState and inputResponses."


class _State(msgspec.Struct, frozen=True):
    """The content of a state: whose it is, which call it belongs to, and the earlier answers of this call."""

    nonce: str
    owner: int
    tool: str
    arguments: str
    name: str
    digest: str
    answers: dict[str, GivenAnswer]


class SealedStates:
    """Makes states and checks those that come back. Any thread may use it.

    The key is made with the object, so that the states of an earlier process are invalid.
    """

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._open: dict[int, dict[str, float]] = {}
        """By owner, the nonces of the open states and when they expire."""

    def input_required(self, call: Call, question: Question) -> Json:
        """The result that asks a stateless client."""
        state = _State(
            nonce=secrets.token_urlsafe(12),
            owner=call.owner,
            tool=call.tool,
            arguments=digest_of(call.decoded_arguments()),
            name=question.name,
            digest=question.digest,
            answers=call.answers,
        )
        due_s = time.monotonic() + ANSWER_S
        due_s = due_s if call.deadline_s is None else min(due_s, call.deadline_s)
        with self._lock:
            nonces = self._open.setdefault(call.owner, {})
            while len(nonces) >= MAX_OPEN:
                del nonces[next(iter(nonces))]
            nonces[state.nonce] = due_s
        requests = {question.name: {"method": METHOD, "params": question.params}}
        return {"resultType": "input_required", "inputRequests": requests, "requestState": self._sealed(state)}

    def take_answers(self, call: Call, retry: Retry) -> None:
        """Gives a call the answers that its request brings; a request without a state has none that count.

        Raises: `ProtocolError` for a state that this server did not make for this call, or that is used or expired.
        """
        if retry.responses is not None and not isinstance(retry.responses, dict):
            raise ProtocolError(INVALID_PARAMS, "Invalid params: inputResponses must be an object")
        if retry.state is None:
            return
        state = self._opened(retry.state)
        try:
            arguments = digest_of(call.decoded_arguments())
        except RecursionError:
            raise ProtocolError(INVALID_PARAMS, "Invalid params: arguments: nested too deeply") from None
        if (state.owner, state.tool, state.arguments) != (call.owner, call.tool, arguments):
            raise _refused("belongs to another call")
        self._use_up(state)
        call.answers = dict(state.answers)
        response = (retry.responses or {}).get(state.name)
        if response is not None:
            if len(encode(response)) > MAX_ANSWER_BYTES:
                text = f"Invalid params: inputResponses.{state.name} is longer than {MAX_ANSWER_BYTES} bytes"
                raise ProtocolError(INVALID_PARAMS, text)
            call.answers[state.name] = GivenAnswer(state.digest, response)

    def _use_up(self, state: _State) -> None:
        """Makes a state invalid for later requests; raises `ProtocolError` if it is so already."""
        with self._lock:
            due_s = self._open.get(state.owner, {}).pop(state.nonce, None)
        if due_s is None:
            raise _refused("was used before")
        if time.monotonic() >= due_s:
            raise _refused("has expired")

    def _sealed(self, state: _State) -> str:
        payload = urlsafe_b64encode(encode(state))
        return f"{payload.decode()}.{self._tag(payload)}"

    def _opened(self, sealed: Any) -> _State:
        if not isinstance(sealed, str):
            raise ProtocolError(INVALID_PARAMS, "Invalid params: requestState must be a string")
        payload, _, tag = sealed.encode("utf-8", "replace").rpartition(b".")
        if not hmac.compare_digest(tag, self._tag(payload).encode()):
            raise _refused("is not one that this server has sent")
        return msgspec.json.decode(urlsafe_b64decode(payload), type=_State)

    def _tag(self, payload: bytes) -> str:
        return hmac.new(self._key, payload, hashlib.sha256).hexdigest()


def _refused(why: str) -> ProtocolError:
    return ProtocolError(INVALID_PARAMS, f"Invalid params: requestState {why}. {AGAIN}")
