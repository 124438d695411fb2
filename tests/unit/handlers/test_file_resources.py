"""Documents, model cards and written files as resources."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

import handlers.resources.files
from handlers.resource_roots import ResourceRoot
from handlers.resources.resources import resource_registry
from mcp_protocol.resources.registry import ResourceRegistry
from mcp_protocol.resources.resource import MAX_BLOB_BYTES, ResourceNotFound
from settings import ROOT as SERVER_FOLDER
from tests.unit.handlers.resource_calls import file_uris, read, refused, uris
from tests.unit.handlers.tool_client import Client


def test_documents_are_listed_with_sizes_that_are_read(shown: ResourceRegistry) -> None:
    documents = {row.uri: row for row in shown.resources({})["resources"] if row.uri.startswith("vllm://docs/")}
    pages = {f"vllm://docs/{path.name}" for path in Path(SERVER_FOLDER, "docs").glob("*.md")}
    assert set(documents) == {"vllm://docs/README.md", *pages, "vllm://docs/demo.png"}
    for uri in ("vllm://docs/README.md", *pages):
        text = read(shown, uri)
        assert text["mimeType"] == "text/markdown"
        assert len(text["text"].encode()) == documents[uri].size
        assert text["text"].startswith("# ")
    assert "# vLLM MCP server" in read(shown, "vllm://docs/README.md")["text"]
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
def test_nothing_but_the_documents_is_read(shown: ResourceRegistry, name: str) -> None:
    assert refused(shown, f"vllm://docs/{name}").code == -32602
    with pytest.raises(ResourceNotFound):
        shown.version(f"vllm://docs/{name}")


def test_document_that_was_not_delivered_is_left_out(
    shown: ResourceRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handlers.resources.files, "ROOT", str(tmp_path))
    assert not any(uri.startswith("vllm://docs/") for uri in uris(shown))
    assert refused(shown, "vllm://docs/README.md").code == -32602


def test_cards_of_the_models_are_read(make_client: Callable[..., Client], tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# My model")
    shown = resource_registry(make_client(VLLM_MODEL_NAME=str(tmp_path)).services)
    own = f"vllm://models/{quote(str(tmp_path), safe='')}"
    assert [uri for uri in uris(shown) if uri.startswith("vllm://models/")] == [own, "vllm://models/demo-vlm"]
    assert read(shown, own)["text"] == "# My model"
    assert "demo" in read(shown, "vllm://models/demo-vlm")["text"]


def test_model_from_the_network_has_no_card(make_client: Callable[..., Client]) -> None:
    shown = resource_registry(make_client(VLLM_MODEL_NAME="some/model").services)
    assert [uri for uri in uris(shown) if uri.startswith("vllm://models/")] == ["vllm://models/demo-vlm"]
    assert refused(shown, "vllm://models/some%2Fmodel").code == -32602


@pytest.mark.parametrize("name", ["", "..", "%2e%2e", "demo-vlm/config.json", "%2Fetc", "demo-vlm%00", "%ff"])
def test_nothing_but_cards_is_read_of_models(shown: ResourceRegistry, name: str) -> None:
    assert refused(shown, f"vllm://models/{name}").code == -32602


# Written files


@pytest.fixture
def written(client: Client, tmp_path: Path) -> Path:
    """The folder of a tool that writes files; a secret lies beside it."""
    folder = tmp_path / "out"
    (folder / "sub").mkdir(parents=True)
    (folder / "a b.png").write_bytes(b"\x89PNG")
    (folder / "notes.txt").write_text("größer")
    (folder / "sub" / "deep.json").write_text("{}")
    (tmp_path / "out-evil").mkdir()
    (tmp_path / "out-evil" / "x.png").write_bytes(b"evil")
    (tmp_path / "secret.png").write_bytes(b"secret")
    client.services.resource_roots.append(ResourceRoot(str(folder), "What tools made.", is_ours=lambda file: True))
    return folder


def test_written_files_are_listed_and_read(shown: ResourceRegistry, written: Path) -> None:
    assert file_uris(shown) == [(written / "a b.png").as_uri(), (written / "notes.txt").as_uri()]
    assert read(shown, (written / "a b.png").as_uri())["blob"] == "iVBORw=="
    assert read(shown, (written / "notes.txt").as_uri())["text"] == "größer"
    assert read(shown, (written / "sub" / "deep.json").as_uri())["text"] == "{}"
    assert read(shown, f"file://localhost{written}/notes.txt")["text"] == "größer"


def test_only_what_the_tool_wrote_is_there(client: Client, shown: ResourceRegistry, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "ours.png").write_bytes(b"ours")
    (folder / "holiday.png").write_bytes(b"theirs")
    root = ResourceRoot(str(folder), "Generated.", is_ours=lambda file: file.read(4) == b"ours")
    client.services.resource_roots.append(root)
    assert file_uris(shown) == [(folder / "ours.png").as_uri()]
    assert read(shown, (folder / "ours.png").as_uri())["blob"] == "b3Vycw=="
    assert refused(shown, (folder / "holiday.png").as_uri()).code == -32602


def test_folder_that_is_not_there_yet_has_no_files(client: Client, shown: ResourceRegistry, tmp_path: Path) -> None:
    client.services.resource_roots.append(ResourceRoot(str(tmp_path / "later"), "Later.", is_ours=lambda file: True))
    assert file_uris(shown) == []
    assert refused(shown, (tmp_path / "later" / "x.png").as_uri()).code == -32602
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "x.png").write_bytes(b"x")
    assert len(file_uris(shown)) == 1


def test_without_folders_no_file_is_read(shown: ResourceRegistry, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"x")
    assert refused(shown, (tmp_path / "x.png").as_uri()).code == -32602
    with pytest.raises(ResourceNotFound):
        shown.version((tmp_path / "x.png").as_uri())


def test_what_is_no_file_to_show_is_not_read(shown: ResourceRegistry, written: Path) -> None:
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
def test_file_outside_of_the_folders_is_not_found(shown: ResourceRegistry, written: Path, uri: str) -> None:
    uri = uri.replace("{root}", str(written))
    assert refused(shown, uri).code == -32602


def test_too_large_file_is_refused_unread_with_its_path(shown: ResourceRegistry, written: Path) -> None:
    with open(written / "large.mp4", "wb") as file:
        file.truncate(MAX_BLOB_BYTES + 1)
    error = refused(shown, (written / "large.mp4").as_uri())
    assert error.code == -32603
    assert str(error) == f"The resource is larger than 5 MB. Its file is {written}/large.mp4."
    with open(written / "large.mp4", "wb") as file:
        file.truncate(MAX_BLOB_BYTES)
    assert len(read(shown, (written / "large.mp4").as_uri())["blob"]) == 4 * ((MAX_BLOB_BYTES + 2) // 3)


def test_text_that_is_none_is_read_as_bytes(shown: ResourceRegistry, written: Path) -> None:
    (written / "latin.txt").write_bytes(b"gr\xf6\xdfer")
    assert read(shown, (written / "latin.txt").as_uri())["blob"]


def test_written_file_has_another_version_after_each_change(shown: ResourceRegistry, written: Path) -> None:
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


def test_templates_have_a_completion_for_each_variable(shown: ResourceRegistry) -> None:
    templates = [row.uri_template for row in shown.templates({})["resourceTemplates"]]
    assert templates == ["vllm://models/{model}", "vllm://sessions/{session_id}"]
    for template, name in zip(templates, ("model", "session_id"), strict=True):
        params = {"ref": {"type": "ref/resource", "uri": template}, "argument": {"name": name, "value": ""}}
        assert "completion" in shown.completion(params)
