"""Questions to the user over HTTP: on the stream of the call, answered by a POST of their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mcp_protocol.tools.toolbox import Toolbox
from tests.mcp_results import MODERN, envelope, text_of
from tests.unit.mcp_protocol.asking import FORMS, asking_toolbox
from tests.unit.mcp_protocol.http.web import Web
from tests.waiting import wait_until
from tests.web_client import BOTH, CLIENT, call, request

pytestmark = pytest.mark.slow


class AskingWeb(Web):
    """A server with a tool that asks."""

    def _toolbox(self) -> Toolbox:
        return asking_toolbox(self.gates)

    def begin(self) -> dict[str, str]:
        """Begins a session of a client with forms."""
        params = {"protocolVersion": "2025-11-25", "capabilities": FORMS, "clientInfo": CLIENT}
        answer = self.post(request("initialize", params))
        return {"mcp-session-id": answer.headers["mcp-session-id"]}


@pytest.fixture
def web() -> Iterator[AskingWeb]:
    with AskingWeb() as web:
        yield web


def test_question_comes_on_the_stream_of_the_call(web: AskingWeb) -> None:
    session, other = web.begin(), web.begin()
    with web.stream(call("ask"), session) as events:
        question = next(events)
        assert question["method"] == "elicitation/create"
        response = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"ok": True}}}
        assert web.post({**response, "result": {"action": "decline"}}, other).status_code == 202
        assert web.post(call("echo", {"text": "meanwhile"}), session).status_code == 200
        assert web.post(response, session).status_code == 202
        (answer,) = events
    assert text_of(answer) == "accept {'ok': True}"


def test_client_that_takes_json_alone_is_not_asked(web: AskingWeb) -> None:
    answer = web.post(call("ask"), {**web.begin(), "accept": "application/json"})
    assert text_of(answer.json()) == "not asked {}"


def test_end_of_the_session_ends_the_question(web: AskingWeb) -> None:
    session = web.begin()
    with web.stream(call("ask"), session) as events:
        next(events)
        assert web.http.delete("/mcp", headers=session).status_code == 204
        assert list(events) == []
    wait_until(lambda: web.server.queue.drained and not web.server.queue.parked.calls())


def test_stateless_client_answers_with_a_second_request(web: AskingWeb) -> None:
    meta = envelope(**{"io.modelcontextprotocol/clientCapabilities": FORMS})
    headers = {**BOTH, "mcp-protocol-version": MODERN, "mcp-method": "tools/call", "mcp-name": "ask"}
    params = {"name": "ask", "arguments": {}, "_meta": meta}
    asked = web.post(request("tools/call", params), headers).json()["result"]
    assert asked["resultType"] == "input_required"
    params |= {"requestState": asked["requestState"], "inputResponses": {"q0": {"action": "decline"}}}
    assert text_of(web.post(request("tools/call", params), headers).json()) == "decline {}"
    replayed = web.post(request("tools/call", params), headers)
    assert (replayed.status_code, replayed.json()["error"]["code"]) == (400, -32602)
