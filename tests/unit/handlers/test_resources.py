"""What the server has to read: the model, the sessions, the documents, the cards, and what tools have written."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

import handlers.files
from engine.interface import ImagePart, Message, TextPart
from handlers.files import ResourceRoot
from handlers.resources import catalogues
from handlers.services import Services
from mcp_protocol.catalogues import Catalogues
from mcp_protocol.jsonrpc import ProtocolError
from mcp_protocol.resources import MAX_BLOB_BYTES, ResourceNotFound
from mcp_protocol.versions import Revision
from tests.unit.handlers.conftest import Desk

MODERN = Revision("2026-07-28")
STRANGE_IDS = ["plain", "../model", "a/b?c#d", "Größe 日本", "%2e%2e", "a b", "{x}", "~", "."]

Json = dict[str, Any]


@pytest.fixture
def shown(desk: Desk) -> Catalogues:
    """The catalogues over the desk's services."""
    return catalogues(desk.services)


def read(shown: Catalogues, uri: str) -> Json:
    """The contents of one resource."""
    _, kind = shown.kind({"uri": uri}, MODERN)
    (contents,) = shown.read(uri, kind, MODERN)["contents"]
    assert contents["uri"] == uri
    found: Json = contents
    return found


def refused(shown: Catalogues, uri: str) -> ProtocolError:
    """Why a resource is not read."""
    with pytest.raises(ProtocolError) as caught:
        read(shown, uri)
    return caught.value


def uris(shown: Catalogues) -> list[str]:
    """All resources of the first page."""
    return [resource.uri for resource in shown.resources({})["resources"]]


# The model


def test_model_is_what_model_info_tells(desk: Desk, shown: Catalogues) -> None:
    contents = read(shown, "vllm://model")
    assert contents["mimeType"] == "application/json"
    facts = json.loads(contents["text"])
    assert facts["server_state"] == "unloaded"
    info = desk.result("model_info")
    assert {name: getattr(info, name) for name in facts} == facts


def test_model_has_another_version_after_each_change(desk: Desk, shown: Catalogues) -> None:
    versions = [shown.version("vllm://model")]
    assert shown.version("vllm://model") == versions[0]
    desk.chat(session_id="s")
    versions.append(shown.version("vllm://model"))
    desk.engine.release()
    versions.append(shown.version("vllm://model"))
    assert all(version not in versions[:number] for number, version in enumerate(versions))


def test_model_is_read_while_it_loads(desk: Desk, shown: Catalogues) -> None:
    desk.engine.load_gate = threading.Event()
    worker = threading.Thread(target=desk.chat)
    worker.start()
    try:
        assert desk.engine.loading.wait(30)
        assert json.loads(read(shown, "vllm://model")["text"])["server_state"] == "loading"
    finally:
        desk.engine.load_gate.set()
        worker.join()


def test_threads_that_ask_at_once_share_one_engine(desk: Desk) -> None:
    for _ in range(20):
        services = Services(desk.services.settings)
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
def test_session_is_listed_and_read_under_its_uri(desk: Desk, shown: Catalogues, session_id: str) -> None:
    desk.engine.enqueue("Hello Ada.")
    desk.chat("I am Ada.", session_id=session_id)
    (resource,) = (row for row in shown.resources({})["resources"] if row.uri.startswith("vllm://sessions/"))
    assert resource.name == session_id
    assert resource.uri == f"vllm://sessions/{quote(session_id, safe='')}"
    session = json.loads(read(shown, resource.uri)["text"])
    assert session["session_id"] == session_id
    messages = [(message["role"], message["text"], message["images"]) for message in session["messages"]]
    assert messages == [("user", "I am Ada.", 0), ("assistant", "Hello Ada.", 0)]


def test_session_with_half_a_surrogate_pair_is_read(desk: Desk, shown: Catalogues) -> None:
    desk.engine.enqueue("half of an emoji: \ud83d")
    desk.chat("Hello", session_id="s")
    session = json.loads(read(shown, "vllm://sessions/s")["text"])
    assert session["messages"][1]["text"] == "half of an emoji: \ufffd"


def test_session_is_read_whole(desk: Desk, shown: Catalogues) -> None:
    for number in range(25):
        desk.chat(str(number), session_id="long")
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
def test_what_names_no_session_is_not_found(desk: Desk, shown: Catalogues, uri: str) -> None:
    desk.chat(session_id="s")
    error = refused(shown, uri)
    assert error.code == -32602
    assert error.data == {"uri": uri}


def test_session_belongs_to_the_worker(shown: Catalogues) -> None:
    assert shown.kind({"uri": "vllm://sessions/x"}, MODERN)[1].on_worker
    assert not shown.kind({"uri": "vllm://model"}, MODERN)[1].on_worker


def test_only_the_worker_touches_the_sessions(desk: Desk) -> None:
    """What other threads see of them was published."""
    services = Services(desk.services.settings)
    services.engine = desk.engine
    shown = catalogues(services)
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


def test_session_has_another_version_after_each_turn_and_none_before_and_after(desk: Desk, shown: Catalogues) -> None:
    versions = [shown.version("vllm://sessions/s%20s")]
    assert versions == [None]
    for _ in range(2):
        desk.chat(session_id="s s")
        versions.append(shown.version("vllm://sessions/s%20s"))
    assert len(set(versions)) == 3
    desk.result("delete_session", {"session_id": "s s"})
    assert shown.version("vllm://sessions/s%20s") is None


def test_list_has_another_version_when_sessions_come_and_go(desk: Desk, shown: Catalogues) -> None:
    versions = [shown.list_version()]
    desk.chat(session_id="s")
    versions.append(shown.list_version())
    desk.chat(session_id="s")
    assert shown.list_version() == versions[-1] != versions[0]
    desk.result("delete_session", {"session_id": "s"})
    assert shown.list_version() == versions[0]


def test_session_too_large_for_a_message_is_refused_with_the_tool_that_shows_it(
    desk: Desk, shown: Catalogues, picture_part: ImagePart
) -> None:
    message = Message("user", (TextPart("x" * 8_000_000), picture_part))
    desk.services.sessions.commit(
        desk.services.sessions.plan("s", [message], 4), Message("assistant", (TextPart("y"),))
    )
    error = refused(shown, "vllm://sessions/s")
    assert error.code == -32603
    assert "get_session" in str(error)


@pytest.fixture
def picture_part() -> ImagePart:
    """A decoded picture."""
    from PIL import Image

    return ImagePart(Image.new("RGB", (2, 2)), "digest")


# Documents and cards


def test_documents_are_listed_with_sizes_that_are_read(shown: Catalogues) -> None:
    documents = {row.uri: row for row in shown.resources({})["resources"] if row.uri.startswith("vllm://docs/")}
    assert list(documents) == ["vllm://docs/README.md", "vllm://docs/demo.png"]
    text = read(shown, "vllm://docs/README.md")
    assert text["mimeType"] == "text/markdown"
    assert len(text["text"].encode()) == documents["vllm://docs/README.md"].size
    assert "# vLLM MCP server" in text["text"]
    blob = read(shown, "vllm://docs/demo.png")
    assert blob["mimeType"] == "image/png"
    assert blob["blob"].startswith("iVBORw0KGgo")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "readme.md",
        "settings.py",
        "../settings.py",
        "..%2fsettings.py",
        "%2e%2e/x",
        "README.md/",
        "README.md\x00",
        ".",
    ],
)
def test_nothing_but_the_documents_is_read(shown: Catalogues, name: str) -> None:
    assert refused(shown, f"vllm://docs/{name}").code == -32602
    with pytest.raises(ResourceNotFound):
        shown.version(f"vllm://docs/{name}")


def test_document_that_was_not_delivered_is_left_out(
    shown: Catalogues, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers.files, "ROOT", str(tmp_path))
    assert not any(uri.startswith("vllm://docs/") for uri in uris(shown))
    assert refused(shown, "vllm://docs/README.md").code == -32602


def test_cards_of_the_models_are_read(make_desk: Callable[..., Desk], tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# My model")
    shown = catalogues(make_desk(VLLM_MODEL_NAME=str(tmp_path)).services)
    own = f"vllm://models/{quote(str(tmp_path), safe='')}"
    assert [uri for uri in uris(shown) if uri.startswith("vllm://models/")] == [own, "vllm://models/demo-vlm"]
    assert read(shown, own)["text"] == "# My model"
    assert "demo" in read(shown, "vllm://models/demo-vlm")["text"]


def test_model_from_the_network_has_no_card(make_desk: Callable[..., Desk]) -> None:
    shown = catalogues(make_desk(VLLM_MODEL_NAME="some/model").services)
    assert [uri for uri in uris(shown) if uri.startswith("vllm://models/")] == ["vllm://models/demo-vlm"]
    assert refused(shown, "vllm://models/some%2Fmodel").code == -32602


@pytest.mark.parametrize("name", ["", "..", "%2e%2e", "demo-vlm/config.json", "%2Fetc", "demo-vlm%00", "%ff"])
def test_nothing_but_cards_is_read_of_models(shown: Catalogues, name: str) -> None:
    assert refused(shown, f"vllm://models/{name}").code == -32602


# Written files


@pytest.fixture
def written(desk: Desk, tmp_path: Path) -> Path:
    """The folder of a tool that writes files; a secret lies beside it."""
    folder = tmp_path / "out"
    (folder / "sub").mkdir(parents=True)
    (folder / "a b.png").write_bytes(b"\x89PNG")
    (folder / "notes.txt").write_text("größer")
    (folder / "sub" / "deep.json").write_text("{}")
    (tmp_path / "out-evil").mkdir()
    (tmp_path / "out-evil" / "x.png").write_bytes(b"evil")
    (tmp_path / "secret.png").write_bytes(b"secret")
    desk.services.resource_roots.append(ResourceRoot(str(folder), "What tools made.", is_ours=lambda file: True))
    return folder


def file_uris(shown: Catalogues) -> list[str]:
    """All written files."""
    return [uri for uri in uris(shown) if uri.startswith("file:")]


def test_written_files_are_listed_and_read(shown: Catalogues, written: Path) -> None:
    assert file_uris(shown) == [(written / "a b.png").as_uri(), (written / "notes.txt").as_uri()]
    assert read(shown, (written / "a b.png").as_uri())["blob"] == "iVBORw=="
    assert read(shown, (written / "notes.txt").as_uri())["text"] == "größer"
    assert read(shown, (written / "sub" / "deep.json").as_uri())["text"] == "{}"
    assert read(shown, f"file://localhost{written}/notes.txt")["text"] == "größer"


def test_only_what_the_tool_wrote_is_there(desk: Desk, shown: Catalogues, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "ours.png").write_bytes(b"ours")
    (folder / "holiday.png").write_bytes(b"theirs")
    root = ResourceRoot(str(folder), "Generated.", is_ours=lambda file: file.read(4) == b"ours")
    desk.services.resource_roots.append(root)
    assert file_uris(shown) == [(folder / "ours.png").as_uri()]
    assert read(shown, (folder / "ours.png").as_uri())["blob"] == "b3Vycw=="
    assert refused(shown, (folder / "holiday.png").as_uri()).code == -32602


def test_folder_that_is_not_there_yet_has_no_files(desk: Desk, shown: Catalogues, tmp_path: Path) -> None:
    desk.services.resource_roots.append(ResourceRoot(str(tmp_path / "later"), "Later.", is_ours=lambda file: True))
    assert file_uris(shown) == []
    assert refused(shown, (tmp_path / "later" / "x.png").as_uri()).code == -32602
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "x.png").write_bytes(b"x")
    assert len(file_uris(shown)) == 1


def test_without_folders_no_file_is_read(shown: Catalogues, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"x")
    assert refused(shown, (tmp_path / "x.png").as_uri()).code == -32602
    with pytest.raises(ResourceNotFound):
        shown.version((tmp_path / "x.png").as_uri())


def test_what_is_no_file_to_show_is_not_read(shown: Catalogues, written: Path) -> None:
    os.mkfifo(written / "fifo.png")
    (written / "folder.png").mkdir()
    (written / ".part.png").write_bytes(b"half")
    (written / "script.py").write_text("x")
    (written / "link.png").symlink_to("../secret.png")
    (written / "inside.png").symlink_to("a b.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(written / "socket.png"))
        for name in (
            "fifo.png",
            "folder.png",
            ".part.png",
            "script.py",
            "link.png",
            "socket.png",
            "sub",
            "",
            "none.png",
        ):
            assert refused(shown, f"{written.as_uri()}/{name}").code == -32602
        listed = [os.path.basename(uri) for uri in file_uris(shown)]
    assert listed == ["a%20b.png", "inside.png", "notes.txt"]
    assert read(shown, (written / "inside.png").as_uri())["blob"] == "iVBORw=="


@pytest.mark.parametrize(
    "uri",
    [
        "file://{root}/../secret.png",
        "file://{root}/%2e%2e/secret.png",
        "file://{root}/..%2fsecret.png",
        "file://{root}/sub/../../secret.png",
        "file://{root}-evil/x.png",
        "file://{root}/a b.png%00.png",
        "file://{root}/a b.png\x00",
        "file://host{root}/notes.txt",
        "file:////host{root}/notes.txt",
        "file:\\\\host\\x.png",
        "file:notes.txt",
        "file:",
        "file://",
        "file:///",
        "file:///etc/passwd",
        "file:///proc/self/environ",
        "file:///dev/zero",
        "FILE://{root}/notes.txt",
        "{root}/notes.txt",
        "file://{root}/" + "x" * 5000 + ".png",
        "file://{root}/%ff.png",
        "file://{root}/\ud800.png",
    ],
)
def test_file_outside_of_the_folders_is_not_found(shown: Catalogues, written: Path, uri: str) -> None:
    uri = uri.replace("{root}", str(written))
    assert refused(shown, uri).code == -32602


def test_too_large_file_is_refused_unread_with_its_path(shown: Catalogues, written: Path) -> None:
    with open(written / "large.mp4", "wb") as file:
        file.truncate(MAX_BLOB_BYTES + 1)
    error = refused(shown, (written / "large.mp4").as_uri())
    assert error.code == -32603
    assert str(error) == f"The resource is larger than 5 MB. Its file is {written}/large.mp4."
    with open(written / "large.mp4", "wb") as file:
        file.truncate(MAX_BLOB_BYTES)
    assert len(read(shown, (written / "large.mp4").as_uri())["blob"]) == 4 * ((MAX_BLOB_BYTES + 2) // 3)


def test_text_that_is_none_is_read_as_bytes(shown: Catalogues, written: Path) -> None:
    (written / "latin.txt").write_bytes(b"gr\xf6\xdfer")
    assert read(shown, (written / "latin.txt").as_uri())["blob"]


def test_written_file_has_another_version_after_each_change(shown: Catalogues, written: Path) -> None:
    path = written / "new.png"
    versions = [shown.version(path.as_uri())]
    assert versions == [None]
    path.write_bytes(b"1")
    versions.append(shown.version(path.as_uri()))
    path.write_bytes(b"22")
    versions.append(shown.version(path.as_uri()))
    assert len(set(versions)) == 3
    with pytest.raises(ResourceNotFound):
        shown.version(f"file://{written}/../secret.png")


# Templates


def test_templates_have_a_completion_for_each_variable(shown: Catalogues) -> None:
    templates = [row.uri_template for row in shown.templates({})["resourceTemplates"]]
    assert templates == ["vllm://models/{model}", "vllm://sessions/{session_id}"]
    for template, name in zip(templates, ("model", "session_id"), strict=True):
        params = {"ref": {"type": "ref/resource", "uri": template}, "argument": {"name": name, "value": ""}}
        assert "completion" in shown.completion(params)
