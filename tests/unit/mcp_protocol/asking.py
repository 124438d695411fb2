"""A tool that asks the user before it answers, for the tests of questions."""

from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from mcp_protocol.calls.call import Call
from mcp_protocol.calls.question import ask
from mcp_protocol.tools.toolbox import MAX_TIMEOUT_S, Tool, Toolbox, text_block
from tests.mcp_results import Json
from tests.unit.mcp_protocol.host import TOOLS, Gates, Host

FORM: Json = {
    "type": "object",
    "properties": {"color": {"type": "string", "enum": ["red", "blue"]}, "ok": {"type": "boolean"}},
    "required": ["ok"],
}
FORMS: Json = {"elicitation": {}}


class AskArguments(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments of `ask`: what to ask, how often, and for how long."""

    about: str = "it"
    times: Annotated[int, Meta(ge=1, le=9)] = 1
    timeout_s: Annotated[float, Meta(gt=0, le=MAX_TIMEOUT_S)] | None = None


def _ask(arguments: AskArguments, call: Call, gates: Gates) -> list[Json]:
    gates.calls.append(call)
    answers = [ask(call, FORM, f"Do {arguments.about[:100]}?", f"q{number}") for number in range(arguments.times)]
    return [text_block(" ".join(f"{answer.action.value} {answer.content}" for answer in answers))]


def asking_toolbox(gates: Gates) -> Toolbox:
    """The tools of the other tests, and the one that asks."""
    return Toolbox((*TOOLS, Tool("ask", "Ask", "Asks.", AskArguments, _ask)), gates, lambda error: repr(error))


class AskingHost(Host):
    """A host whose user can be asked."""

    def _toolbox(self) -> Toolbox:
        return asking_toolbox(self.gates)

    def begin(self, version: str = "2025-11-25", capabilities: Any = None) -> None:
        """Negotiates a legacy revision and declares forms."""
        declared = FORMS if capabilities is None else capabilities
        client = {"name": "t", "version": "1"}
        answer = self.request(
            "initialize", {"protocolVersion": version, "capabilities": declared, "clientInfo": client}
        )
        assert answer["result"]["protocolVersion"] == version

    def asked(self) -> Json:
        """The next message, which is a question."""
        message = self.next()
        assert message["method"] == "elicitation/create", message
        return message

    def respond(self, question_id: Any, **body: Any) -> None:
        """Answers a question."""
        self.line(json.dumps({"jsonrpc": "2.0", "id": question_id, **body}).encode())

    def accept(self, question: Json, **content: Any) -> None:
        """Accepts a question with these values."""
        self.respond(question["id"], result={"action": "accept", "content": content})
