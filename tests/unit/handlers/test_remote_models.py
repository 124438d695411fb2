"""Several models of one remote server: those of the settings, and those that the server lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from engine.models import MAX_OTHERS
from tests.scripted_openai import ScriptedOpenAI
from tests.unit.handlers.tool_client import Client, user

MakeRemote = Callable[..., Client]


@pytest.fixture
def server() -> Iterator[ScriptedOpenAI]:
    with ScriptedOpenAI(["first", "second", "third"]) as running:
        yield running


@pytest.fixture
def make_remote(server: ScriptedOpenAI) -> Iterator[MakeRemote]:
    """Makes tools whose engines are those that the settings pick."""
    made: list[Client] = []

    def make(**environment: str) -> Client:
        client = Client({"VLLM_BASE_URL": server.url, **environment})
        del client.services.engine, client.services.make_engine
        made.append(client)
        return client

    yield make
    for client in made:
        client.services.close()


def test_models_of_the_settings_are_named_as_there(server: ScriptedOpenAI, make_remote: MakeRemote) -> None:
    client = make_remote(VLLM_MODEL_NAME="first", VLLM_MODELS="quick=second third=third")
    assert [client.chat(model=name).model for name in ("quick", "third", "first")] == ["quick", "third", "first"]
    assert client.chat().model == "first"
    assert [chat["model"] for chat in server.chats()] == ["second", "third", "first", "first"]
    assert [each.name for each in client.result("model_info").models] == ["first", "quick", "third"]


def test_model_that_the_server_lists_needs_no_setting(server: ScriptedOpenAI, make_remote: MakeRemote) -> None:
    client = make_remote()
    assert (client.chat().model, client.chat(model="second").model) == ("first", "second")
    assert [chat["model"] for chat in server.chats()] == ["first", "second"]
    assert client.result("model_info", {"model": "second"}).model_name == "second"
    for name in ("second", "third"):
        assert client.result("get_gpu_status", {"model": name}).model_name == name


def test_first_model_of_the_server_may_be_named(server: ScriptedOpenAI, make_remote: MakeRemote) -> None:
    client = make_remote()
    client.chat()
    assert client.chat(model="first").model == "first"
    assert len(client.services.models.engines()) == 1


def test_name_that_the_server_does_not_list_is_told_with_its_names(
    server: ScriptedOpenAI, make_remote: MakeRemote
) -> None:
    client = make_remote()
    error = client.error("chat_completion", {"messages": [user("Hi")], "model": "fourth"})
    assert f"The server at {server.url} has no model 'fourth'; it has first, second, third." in error
    assert "Give one of them as the argument model" in error
    assert client.chat().model == "first"
    assert not any(chat["model"] == "fourth" for chat in server.chats())


def test_unlisted_name_is_sent_where_the_settings_allow_it(server: ScriptedOpenAI, make_remote: MakeRemote) -> None:
    client = make_remote(VLLM_UNLISTED_MODELS="1")
    assert client.chat(model="first:nitro").model == "first:nitro"
    assert server.chats()[-1]["model"] == "first:nitro"


def test_all_models_of_a_server_share_its_connections(make_remote: MakeRemote) -> None:
    client = make_remote()
    loops = {id(client.services.models.engine(name)._loop) for name in (None, "second", "third")}  # type: ignore[attr-defined]
    assert len(loops) == 1


def test_number_of_known_models_is_bounded(make_remote: MakeRemote) -> None:
    client = make_remote(VLLM_UNLISTED_MODELS="1")
    for number in range(2 * MAX_OTHERS):
        assert client.chat(model=f"name-{number}").model == f"name-{number}"
    assert len(client.services.models.engines()) <= MAX_OTHERS + 1
    assert client.chat(model="name-0").model == "name-0"


def test_release_forgets_all_and_says_where_they_are(server: ScriptedOpenAI, make_remote: MakeRemote) -> None:
    client = make_remote(VLLM_MODEL_NAME="first", VLLM_MODELS="quick=second")
    client.chat(model="quick")
    assert server.url in client.result("release_gpu").message
    assert client.chat(model="quick").model == "quick"


def test_session_goes_on_with_another_model_of_the_server(server: ScriptedOpenAI, make_remote: MakeRemote) -> None:
    client = make_remote()
    client.chat("one", session_id="s")
    client.chat("two", session_id="s", model="second")
    messages = client.result("get_session", {"session_id": "s"}).messages
    assert [message.model for message in messages] == [None, "first", None, "second"]
