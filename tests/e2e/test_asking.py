"""The question before a prompt goes to a provider elsewhere: the real process, by raw lines and by an official client.

The provider has a name of another machine; the proxy of the settings is what answers for it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.environments import python_environment
from tests.e2e.server_process import LOAD_S, ROOT, SERVER, Json, ServerProcess
from tests.scripted_openai import MODEL, Request, ScriptedOpenAI

TOOL = "generate_multimodal_response"
HOST = "models.example"
ARGUMENTS: Json = {"prompt": "one two", "provider": "openai", "model": MODEL}
MODERN = "2026-07-28"
CLIENT = {"name": "tests", "version": "1.0.0"}


class ProxiedRequest(Request):
    """A request to a proxy, whose first line has a whole address."""

    def parse_request(self) -> bool:
        """Reads the first line and the headers."""
        is_valid = super().parse_request()
        if is_valid:
            self.path = self.path.removeprefix(f"http://{HOST}")
        return is_valid


@pytest.fixture
def provider() -> Iterator[ScriptedOpenAI]:
    """The provider behind the proxy."""
    with ScriptedOpenAI(owned_by="openai") as provider:
        provider.RequestHandlerClass = ProxiedRequest
        yield provider


@pytest.fixture
def environment(provider: ScriptedOpenAI) -> dict[str, str]:
    """The settings of a server with this provider."""
    return {
        "OPENAI_BASE_URL": f"http://{HOST}/v1",
        "OPENAI_API_KEY": "sk-e2e-secret-9876543210",
        "VLLM_PROXY_URL": provider.url,
        "VLLM_TOOLSETS": "providers",
    }


@pytest.fixture
def server(environment: dict[str, str]) -> Iterator[ServerProcess]:
    with ServerProcess(environment) as process:
        yield process


def initialize(server: ServerProcess, version: str = "2025-11-25") -> None:
    """Begins as a client with forms."""
    params = {"protocolVersion": version, "capabilities": {"elicitation": {}}, "clientInfo": CLIENT}
    server.request("initialize", params, request_id=0)
    server.notify("notifications/initialized")


def stateless(**params: Any) -> Json:
    """The parameters of a stateless call of a client with forms."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}},
    }
    return {"name": TOOL, "arguments": ARGUMENTS, "_meta": meta, **params}


@pytest.mark.parametrize("version", ["2025-06-18", "2025-11-25"])
def test_accepted_prompt_is_sent_and_the_next_one_without_a_question(
    server: ServerProcess, provider: ScriptedOpenAI, version: str
) -> None:
    initialize(server, version)
    server.send_call(TOOL, ARGUMENTS, request_id=7)
    question = server.read_message()
    assert set(question) == {"jsonrpc", "id", "method", "params"}
    assert question["method"] == "elicitation/create"
    message = question["params"]["message"]
    assert f"{MODEL} of the provider openai ({HOST})" in message
    assert provider.chats() == []
    server.assert_serves()
    assert not server.call("list_available_providers", request_id=8)["result"]["isError"]
    server.send({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"send": True}}})
    assert not server.read_answer(7)["result"]["isError"]
    assert not server.call(TOOL, ARGUMENTS, request_id=9)["result"]["isError"]
    assert len(provider.chats()) == 2
    assert [line for line in server.raw_lines if b"elicitation" in line] == server.raw_lines[1:2]


def test_declined_prompt_is_not_sent(server: ServerProcess, provider: ScriptedOpenAI) -> None:
    initialize(server)
    server.send_call(TOOL, ARGUMENTS, request_id=7)
    server.send({"jsonrpc": "2.0", "id": server.read_message()["id"], "result": {"action": "decline"}})
    result = server.read_answer(7)["result"]
    assert result["isError"]
    assert "declined" in result["content"][0]["text"]
    assert provider.chats() == []


def test_question_ends_at_the_deadline_of_the_call(server: ServerProcess, provider: ScriptedOpenAI) -> None:
    initialize(server)
    server.send_call(TOOL, {**ARGUMENTS, "timeout_s": 1}, request_id=7)
    question = server.read_message()
    withdrawn = server.read_message()
    assert (withdrawn["method"], withdrawn["params"]["requestId"]) == ("notifications/cancelled", question["id"])
    result = server.read_answer(7)["result"]
    assert result["isError"]
    assert "did not answer" in result["content"][0]["text"]
    server.send({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"send": True}}})
    server.assert_serves()
    assert provider.chats() == []


def test_end_of_the_input_ends_the_question_and_the_process(server: ServerProcess, provider: ScriptedOpenAI) -> None:
    initialize(server)
    server.send_call(TOOL, ARGUMENTS, request_id=7)
    server.read_message()
    server.close_stdin()
    result = server.read_answer(7)["result"]
    assert result["isError"]
    assert server.wait() == 0
    assert provider.chats() == []


def test_cancelled_call_gets_nothing_more(server: ServerProcess, provider: ScriptedOpenAI) -> None:
    initialize(server)
    server.send_call(TOOL, ARGUMENTS, request_id=7)
    question = server.read_message()
    server.notify("notifications/cancelled", {"requestId": 7})
    server.send({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"send": True}}})
    server.assert_serves()
    server.close_stdin()
    assert server.wait() == 0
    assert server.remaining() == []
    assert provider.chats() == []


@pytest.mark.parametrize("setting", ["auto", "never"])
def test_client_without_forms_gets_the_answer_alone(
    environment: dict[str, str], provider: ScriptedOpenAI, setting: str
) -> None:
    with ServerProcess({**environment, "VLLM_ASK": setting}) as server:
        if setting == "never":
            initialize(server)
        server.send_call(TOOL, ARGUMENTS, request_id=7)
        message = server.read_message()
        assert message["id"] == 7
        assert not message["result"]["isError"]
        server.assert_serves()
    assert len(provider.chats()) == 1


def test_stateless_client_is_asked_by_the_result(server: ServerProcess, provider: ScriptedOpenAI) -> None:
    asked = server.request("tools/call", stateless())["result"]
    assert asked["resultType"] == "input_required"
    ((name, request),) = asked["inputRequests"].items()
    assert request["method"] == "elicitation/create"
    assert provider.chats() == []
    yes = {
        "requestState": asked["requestState"],
        "inputResponses": {name: {"action": "accept", "content": {"send": True}}},
    }
    altered = server.request("tools/call", stateless(**{**yes, "requestState": asked["requestState"] + "x"}))
    other = server.request("tools/call", stateless(**yes, arguments={**ARGUMENTS, "prompt": "else"}))
    for refused in (altered, other):
        assert refused["error"]["code"] == -32602
    assert provider.chats() == []
    answer = server.request("tools/call", stateless(**yes))["result"]
    assert (answer["resultType"], answer["isError"]) == ("complete", False)
    assert server.request("tools/call", stateless(**yes))["error"]["code"] == -32602
    again = server.request("tools/call", stateless())["result"]
    assert again["resultType"] == "complete"
    assert len(provider.chats()) == 2


@pytest.mark.parametrize("mode", ["legacy", "auto"])
@pytest.mark.parametrize("action", ["accept", "decline"])
def test_official_client_asks_its_user(
    environment: dict[str, str], provider: ScriptedOpenAI, mode: str, action: str
) -> None:
    given = {"environment": {**environment, "PATH": os.environ["PATH"]}, "arguments": ARGUMENTS}
    command = [str(python_environment("mcp2")), "-m", "tests.e2e.clients.asked", mode, action, sys.executable]
    run = subprocess.run(
        [*command, str(SERVER), TOOL],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=LOAD_S,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    seen = json.loads(run.stdout)
    assert seen["version"] == (MODERN if mode == "auto" else "2025-11-25")
    accepted = action == "accept"
    assert len(seen["questions"]) == (1 if accepted else 2)
    assert all(HOST in question for question in seen["questions"])
    assert [is_error for is_error, _ in seen["results"]] == [not accepted, not accepted]
    assert len(provider.chats()) == (2 if accepted else 0)
