"""Resources of the model and of the sessions."""

from __future__ import annotations

import json
import threading
from typing import Any
from urllib.parse import quote

import pytest

from engine.interface import ImagePart, Message, TextPart
from handlers.resources.resources import resource_registry
from handlers.services import Services
from mcp_protocol.resources.registry import ResourceRegistry
from tests.unit.handlers.resource_calls import MODERN, STRANGE_IDS, read, refused, uris
from tests.unit.handlers.tool_client import Client


def test_model_is_what_model_info_tells(client: Client, shown: ResourceRegistry) -> None:
    contents = read(shown, "vllm://model")
    assert contents["mimeType"] == "application/json"
    facts = json.loads(contents["text"])
    assert facts["server_state"] == "unloaded"
    info = client.result("model_info")
    assert {name: getattr(info, name) for name in facts} == facts


def test_model_has_another_version_after_each_change(client: Client, shown: ResourceRegistry) -> None:
    versions = [shown.version("vllm://model")]
    assert shown.version("vllm://model") == versions[0]
    client.chat(session_id="s")
    versions.append(shown.version("vllm://model"))
    client.engine.release()
    versions.append(shown.version("vllm://model"))
    assert all(version not in versions[:number] for number, version in enumerate(versions))


def test_model_is_read_while_it_loads(client: Client, shown: ResourceRegistry) -> None:
    client.engine.load_gate = threading.Event()
    worker = threading.Thread(target=client.chat)
    worker.start()
    try:
        assert client.engine.loading.wait(30)
        assert json.loads(read(shown, "vllm://model")["text"])["server_state"] == "loading"
    finally:
        client.engine.load_gate.set()
        worker.join()


def test_threads_that_ask_at_once_share_one_engine(client: Client) -> None:
    for _ in range(20):
        services = Services(client.services.settings)
        barrier = threading.Barrier(4)
        seen: list[Any] = []

        def ask(services: Services = services, barrier: threading.Barrier = barrier, seen: list[Any] = seen) -> None:
            barrier.wait()
            seen.append(services.engine)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({id(engine) for engine in seen}) == 1


# Sessions


@pytest.mark.parametrize("session_id", STRANGE_IDS)
def test_session_is_listed_and_read_under_its_uri(client: Client, shown: ResourceRegistry, session_id: str) -> None:
    client.engine.enqueue("Hello Ada.")
    client.chat("I am Ada.", session_id=session_id)
    (resource,) = (row for row in shown.resources({})["resources"] if row.uri.startswith("vllm://sessions/"))
    assert resource.name == session_id
    assert resource.uri == f"vllm://sessions/{quote(session_id, safe='')}"
    session = json.loads(read(shown, resource.uri)["text"])
    assert session["session_id"] == session_id
    messages = [(message["role"], message["text"], message["images"]) for message in session["messages"]]
    assert messages == [("user", "I am Ada.", 0), ("assistant", "Hello Ada.", 0)]


def test_session_with_half_a_surrogate_pair_is_read(client: Client, shown: ResourceRegistry) -> None:
    client.engine.enqueue("half of an emoji: \ud83d")
    client.chat("Hello", session_id="s")
    session = json.loads(read(shown, "vllm://sessions/s")["text"])
    assert session["messages"][1]["text"] == "half of an emoji: \ufffd"


def test_session_is_read_whole(client: Client, shown: ResourceRegistry) -> None:
    for number in range(25):
        client.chat(str(number), session_id="long")
    session = json.loads(read(shown, "vllm://sessions/long")["text"])
    assert len(session["messages"]) == session["total_messages"] == 50


@pytest.mark.parametrize(
    "uri",
    [
        "vllm://sessions/none",
        "vllm://sessions/",
        "vllm://sessions/a/b",
        "vllm://sessions/../model",
        "vllm://sessions/s?x",
        "vllm://sessions/s#x",
        "vllm://sessions/%ff",
        "vllm://sessions/%",
        "vllm://sessions/%00",
        "vllm://sessions/" + "x" * 5000,
        "vllm://sessions",
        "vllm://",
        "vllm://model/",
        "vllm://model?x",
        "VLLM://model",
        "vllm:/model",
        " vllm://model",
    ],
)
def test_what_names_no_session_is_not_found(client: Client, shown: ResourceRegistry, uri: str) -> None:
    client.chat(session_id="s")
    error = refused(shown, uri)
    assert error.code == -32602
    assert error.data == {"uri": uri}


def test_session_belongs_to_the_worker(shown: ResourceRegistry) -> None:
    assert shown.kind({"uri": "vllm://sessions/x"}, MODERN)[1].on_worker
    assert not shown.kind({"uri": "vllm://model"}, MODERN)[1].on_worker


def test_only_the_worker_touches_the_sessions(client: Client) -> None:
    """What other threads see of them was published."""
    services = Services(client.services.settings)
    services.engine = client.engine
    shown = resource_registry(services)
    shown.resources({})
    shown.list_version()
    shown.version("vllm://sessions/s")
    read(shown, "vllm://model")
    ref = {"type": "ref/resource", "uri": "vllm://sessions/{session_id}"}
    shown.completion({"ref": ref, "argument": {"name": "session_id", "value": ""}})
    assert "sessions" not in services.__dict__
    message = Message("user", (TextPart("Hi"),))
    services.sessions.commit(services.sessions.plan("kept", [message], 4), message)
    assert not any(uri.startswith("vllm://sessions/") for uri in uris(shown))
    shown.prepare()
    assert "vllm://sessions/kept" in uris(shown)


def test_session_has_another_version_after_each_turn_and_none_before_and_after(
    client: Client, shown: ResourceRegistry
) -> None:
    versions = [shown.version("vllm://sessions/s%20s")]
    assert versions == [None]
    for _ in range(2):
        client.chat(session_id="s s")
        versions.append(shown.version("vllm://sessions/s%20s"))
    assert len(set(versions)) == 3
    client.result("delete_session", {"session_id": "s s"})
    assert shown.version("vllm://sessions/s%20s") is None


def test_list_has_another_version_when_sessions_come_and_go(client: Client, shown: ResourceRegistry) -> None:
    versions = [shown.list_version()]
    client.chat(session_id="s")
    versions.append(shown.list_version())
    client.chat(session_id="s")
    assert shown.list_version() == versions[-1] != versions[0]
    client.result("delete_session", {"session_id": "s"})
    assert shown.list_version() == versions[0]


def test_session_too_large_for_a_message_is_refused_with_the_tool_that_shows_it(
    client: Client, shown: ResourceRegistry, image_part: ImagePart
) -> None:
    message = Message("user", (TextPart("x" * 8_000_000), image_part))
    client.services.sessions.commit(
        client.services.sessions.plan("s", [message], 4), Message("assistant", (TextPart("y"),))
    )
    error = refused(shown, "vllm://sessions/s")
    assert error.code == -32603
    assert "get_session" in str(error)


@pytest.fixture
def image_part() -> ImagePart:
    """A decoded image."""
    from PIL import Image

    return ImagePart(Image.new("RGB", (2, 2)), "digest")
