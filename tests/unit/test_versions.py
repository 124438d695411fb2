"""All files that name a release agree on its names and its version. End-to-end tests check them with their readers."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import settings
from release import metadata, names
from settings import COMMAND, SERVER_VERSION

Json = dict[str, Any]
ROOT = Path(__file__).parents[2]
REGISTRY_NAME = re.compile(r"io\.github\.[\w-]+/[\w.-]+")
REPOSITORY = re.compile(r"https://github\.com/[\w-]+/vllm-mcp-server\b")


def loaded(path: Path) -> Json:
    """A JSON file."""
    found: Json = json.loads(path.read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("path", metadata.files(), ids=lambda path: path.name)
def test_file_is_up_to_date(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == metadata.files()[path], "run python -m release.metadata"


def test_version_is_the_same_everywhere() -> None:
    entry, (pin,) = loaded(ROOT / "server.json"), loaded(ROOT / "plugin" / ".mcp.json")["mcpServers"].values()
    assert entry["version"] == SERVER_VERSION
    assert [package["version"] for package in entry["packages"]] == [SERVER_VERSION]
    assert pin["args"] == [f"{COMMAND}@{SERVER_VERSION}"]
    assert loaded(ROOT / "plugin" / ".claude-plugin" / "plugin.json")["version"] == SERVER_VERSION
    released = metadata.releases((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert released[:1] in ([], [SERVER_VERSION])


def test_package_has_one_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["name"] == COMMAND
    assert [package["identifier"] for package in loaded(ROOT / "server.json")["packages"]] == [project["name"]]
    assert (project["license"], project["authors"]) == (names.LICENSE, [{"name": names.AUTHOR}])


def test_plugin_has_one_name() -> None:
    (listed,) = loaded(ROOT / ".claude-plugin" / "marketplace.json")["plugins"]
    assert listed["name"] == loaded(ROOT / "plugin" / ".claude-plugin" / "plugin.json")["name"]
    assert (ROOT / listed["source"] / ".claude-plugin" / "plugin.json").is_file()


def test_registry_and_repository_have_one_name_in_all_files() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "plugin").rglob("*.md")]
    texts = "\n".join(path.read_text(encoding="utf-8") for path in {*metadata.files(), *pages})
    assert set(REGISTRY_NAME.findall(texts)) == {names.REGISTRY_NAME}
    assert set(REPOSITORY.findall(texts)) == {names.REPOSITORY_URL}


def test_programs_of_a_release_that_the_pages_name_exist() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
    named = set(re.findall(r"python -m release\.(\w+)", text))
    assert named == {"bundle", "icons", "metadata"}
    assert [name for name in named if not (ROOT / "release" / f"{name}.py").is_file()] == []


@pytest.mark.parametrize(("path", "before", "after"), metadata.MARKS, ids=["readme", "dockerfile"])
def test_registry_finds_its_name_in_what_is_published(path: Path, before: str, after: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(before) == 1
    assert f"{before}{names.REGISTRY_NAME}{after}\n" in text


def test_entry_of_a_release_has_the_bundle_with_its_hash(tmp_path: Path) -> None:
    bundle = tmp_path / f"{COMMAND}-{SERVER_VERSION}.mcpb"
    bundle.write_bytes(b"a bundle")
    _, package = metadata.registry_entry(bundle)["packages"]
    assert package["identifier"].startswith(f"{names.REPOSITORY_URL}/releases/download/v{SERVER_VERSION}/")
    assert package["identifier"].endswith(bundle.name)
    assert package["fileSha256"] == hashlib.sha256(b"a bundle").hexdigest()


def test_asked_settings_exist_and_their_keys_are_secret() -> None:
    variables = [field.variable for field in names.FIELDS]
    assert set(variables) <= {row.variable for row in settings.rows()}
    assert len(set(variables)) == len(variables)
    assert [field.variable for field in names.FIELDS if field.is_secret] == [
        variable for variable in variables if variable.endswith("_KEY")
    ]


def test_tag_of_another_version_cannot_be_released() -> None:
    assert any("v99.0.0" in problem for problem in metadata.problems("v99.0.0"))


def test_release_needs_an_owner_and_an_entry_in_the_change_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "OWNER", names.PLACEHOLDER)
    assert any("OWNER" in problem for problem in metadata.problems(f"v{SERVER_VERSION}"))
    monkeypatch.setattr(names, "OWNER", "somebody")
    monkeypatch.setattr(metadata, "releases", lambda _: [SERVER_VERSION])
    monkeypatch.setattr(metadata, "files", dict)
    assert list(metadata.problems(f"v{SERVER_VERSION}")) == []
    monkeypatch.setattr(metadata, "releases", lambda _: [])
    assert any("CHANGELOG" in problem for problem in metadata.problems(f"v{SERVER_VERSION}"))
