"""How a handler asks the user: it calls `ask` before it does anything else, and is run again with the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mcp_protocol.calls.answers import Action, Answer, AnswerError, GivenAnswer
from mcp_protocol.jsonrpc import Json

if TYPE_CHECKING:
    from mcp_protocol.calls.call import Call

METHOD = "elicitation/create"


class Question(Exception):
    """Raised by `ask`: the call ends or waits here, and runs again from its start when the answer has come.

    Arguments:
        name: distinguishes the questions of a call.
        schema: the form: a flat JSON schema of strings, numbers, booleans and enums.
        message: what the user reads above the form.
    """

    def __init__(self, name: str, schema: Json, message: str) -> None:
        super().__init__(message)
        self.name = name
        self.schema = schema
        self.message = message

    @property
    def params(self) -> Json:
        """The parameters of the request to the client."""
        return {"message": self.message, "requestedSchema": self.schema}

    @property
    def digest(self) -> str:
        """Identifies what the user was asked."""
        return digest_of(self.params)


def ask(call: Call, schema: Json, message: str, name: str = "answer") -> Answer:
    """The user's answer to a question.

    A handler calls this before it has any effect, because it is run again from its start when the answer has come. An
    answer counts only for the same form and message.

    Arguments:
        call: the call that needs the answer.
        schema: the form; see `Question`.
        message: one or two sentences for the user.
        name: distinguishes the questions of a call.

    Raises: `Question`, which the server handles; `AnswerError`.
    """
    if not call.context.can_ask:
        return Answer(Action.NOT_ASKED)
    question = Question(name, schema, message)
    given = call.answers.get(name)
    if given is None or given.digest != question.digest:
        raise question
    return _answer(given, schema)


def digest_of(value: Any) -> str:
    """A digest of a JSON value that does not depend on the order of keys; raises `RecursionError`."""
    import hashlib  # loaded with the first question
    import json

    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _answer(given: GivenAnswer, schema: Json) -> Answer:
    from mcp_protocol.calls.form import checked

    if given.error is not None:
        raise AnswerError(f"The client did not ask the user: {given.error}")
    response = given.response
    action = response.get("action") if isinstance(response, dict) else None
    if action not in (Action.ACCEPTED.value, Action.DECLINED.value, Action.CANCELLED.value):
        raise AnswerError("The client's answer to the question has no valid action: accept, decline or cancel.")
    if action != Action.ACCEPTED.value:
        return Answer(Action(action))
    content = response.get("content")
    return Answer(Action.ACCEPTED, checked({} if content is None else content, schema))
