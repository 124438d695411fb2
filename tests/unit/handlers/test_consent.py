"""The question before a prompt goes to a provider on another machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handlers.providers import consent
from mcp_protocol.calls.answers import GivenAnswer
from mcp_protocol.calls.question import Question
from mcp_protocol.connection import Connection, RequestContext
from mcp_protocol.versions import Revision
from tests.scripted_openai import ScriptedOpenAI
from tests.unit.handlers.provider_calls import TOOL
from tests.unit.handlers.tool_client import Client, make_image

ACCEPTED = {"action": "accept", "content": {"send": True}}


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripted providers count as other machines."""
    monkeypatch.setattr(consent, "is_on_this_machine", lambda url: False)


class User:
    """The user of one connection, who gives one answer to every question and remembers what was asked."""

    def __init__(self, client: Client, response: Any = None, connection: Connection | None = None) -> None:
        self.client = client
        self.response = response
        self.connection = connection or Connection()
        self.questions: list[Question] = []

    def call(self, *, can_ask: bool = True, **arguments: Any) -> Any:
        """The result of a call, run again with the answer where the user is asked."""
        call = self.client.make_call(TOOL, {"prompt": "one two", **arguments})
        call.context = RequestContext(self.connection, self.connection.writer, Revision("2025-11-25"), can_ask=can_ask)
        while True:
            try:
                return self.client.toolbox.run(call)
            except Question as question:
                self.questions.append(question)
                call.answers[question.name] = GivenAnswer(question.digest, self.response)


def text_of(result: Any) -> str:
    """The text of a failed call."""
    assert result["isError"], result
    text: str = result["content"][0]["text"]
    return text


def test_user_is_asked_once_for_each_provider(
    provider_client: Client, server: ScriptedOpenAI, lab: ScriptedOpenAI
) -> None:
    user = User(provider_client, ACCEPTED)
    for provider, model in (("openai", "gpt-x"), ("openai", "both"), ("lab", "both"), ("openai", "gpt-x")):
        assert not user.call(provider=provider, model=model)["isError"]
    assert [question.message.split("provider ")[1].split(" ")[0] for question in user.questions] == ["openai", "lab"]
    assert (len(server.chats()), len(lab.chats())) == (3, 1)
    other = User(provider_client, ACCEPTED)
    other.call(provider="openai", model="gpt-x")
    assert len(other.questions) == 1


def test_question_says_what_is_sent_and_where(provider_client: Client, tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    path.write_bytes(make_image("red"))
    user = User(provider_client, ACCEPTED)
    user.call(provider="openai", model="gpt-x", image_urls=[str(path)], file_paths=[str(path)])
    (question,) = user.questions
    assert question.message == (
        f"Send a prompt of 7 characters and 2 images (files of {path.stat().st_size:,} bytes) to the model gpt-x of "
        "the provider openai (127.0.0.1)? It leaves this machine, and the provider may charge for it."
    )
    assert question.schema["required"] == ["send"]


@pytest.mark.parametrize(
    ("response", "did"),
    [
        ({"action": "decline"}, "declined"),
        ({"action": "cancel"}, "closed the question"),
        ({"action": "accept", "content": {"send": False}}, "declined"),
    ],
)
def test_refused_prompt_is_not_sent(provider_client: Client, server: ScriptedOpenAI, response: Any, did: str) -> None:
    user = User(provider_client, response)
    text = text_of(user.call(provider="openai", model="gpt-x"))
    assert did in text
    assert "Nothing was sent" in text
    assert server.chats() == []
    user.call(provider="openai", model="gpt-x")
    assert len(user.questions) == 2


def test_invalid_answer_sends_nothing(provider_client: Client, server: ScriptedOpenAI) -> None:
    user = User(provider_client, {"action": "accept", "content": {"send": "yes"}})
    assert "send must be true or false" in text_of(user.call(provider="openai", model="gpt-x"))
    assert server.chats() == []


def test_wrong_request_is_refused_without_a_question(provider_client: Client) -> None:
    user = User(provider_client, ACCEPTED)
    text_of(user.call(provider="openai", model="gpt-x", image_urls=["/nowhere/a.png"]))
    text_of(user.call(provider="nobody"))
    assert user.questions == []


def test_client_that_cannot_ask_sends_as_before(provider_client: Client, server: ScriptedOpenAI) -> None:
    user = User(provider_client)
    assert not user.call(can_ask=False, provider="openai", model="gpt-x")["isError"]
    assert len(server.chats()) == 1


def test_engine_of_this_server_needs_no_question(provider_client: Client) -> None:
    user = User(provider_client)
    assert not user.call(provider="local")["isError"]
    assert user.questions == []


def test_server_in_place_of_the_engine_needs_no_question(
    make_client: Callable[..., Client], lab: ScriptedOpenAI
) -> None:
    user = User(make_client(VLLM_BASE_URL=f"{lab.url}/v1"))
    user.call(provider="vllm")
    assert user.questions == []
    assert len(lab.chats()) == 1


def test_provider_on_this_machine_needs_no_question(
    provider_client: Client, server: ScriptedOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    user = User(provider_client)
    assert not user.call(provider="openai", model="gpt-x")["isError"]
    assert user.questions == []


def test_answer_to_another_question_does_not_count(provider_client: Client, server: ScriptedOpenAI) -> None:
    user = User(provider_client, ACCEPTED)
    call = provider_client.make_call(TOOL, {"prompt": "longer than before", "provider": "openai", "model": "gpt-x"})
    context = RequestContext(user.connection, user.connection.writer, Revision("2025-11-25"), can_ask=True)
    call.context = context
    call.answers["send_to_provider"] = GivenAnswer("0" * 64, ACCEPTED)
    with pytest.raises(Question):
        provider_client.toolbox.run(call)
    assert server.chats() == []
