"""The entry that starts this server: of a clone, of a wheel, and of an environment of uvx."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from cli.clients import entry
from cli.clients.entry import Entry, this_server
from settings import ROOT


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The `site-packages` of an environment in which this package is installed, as in `.venv` or uv's cache."""
    packages = tmp_path / "archive-v0" / "env" / "lib" / "python3.11" / "site-packages"
    root = packages / "mcp_server_vllm"
    root.mkdir(parents=True)
    monkeypatch.setattr(entry, "ROOT", str(root))
    monkeypatch.setattr(entry, "is_clone", lambda: False)
    (tmp_path / "archive-v0" / "env" / "pyvenv.cfg").touch()
    return packages


def of_dist(packages: Path, direct_url: dict[str, object] | None = None) -> None:
    """Gives the package its metadata."""
    folder = packages / "mcp_server_vllm-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.4\nName: mcp-server-vllm\nVersion: 1.0\n")
    if direct_url is not None:
        (folder / "direct_url.json").write_text(json.dumps(direct_url))


def test_clone_is_started_by_the_python_of_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entry, "ROOT", str(tmp_path))
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()
    assert this_server({"A": "b"}) == Entry(str(python), (str(tmp_path / "vllm_server.py"),), {"A": "b"})


def test_clone_without_an_environment_is_started_by_the_python_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry, "ROOT", str(tmp_path))
    assert this_server({}).command == sys.executable


def test_this_clone_is_started_by_its_file() -> None:
    assert this_server({}).args == (str(Path(ROOT) / "vllm_server.py"),)


@pytest.mark.parametrize("script", ["bin/mcp-server-vllm", "Scripts/mcp-server-vllm.exe"])
def test_wheel_is_started_by_its_command(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.setattr(sys, "prefix", "/the/environment/of/the/engine")
    prefix = (tmp_path / "archive-v0" / "env").rename(tmp_path / "env")
    monkeypatch.setattr(entry, "ROOT", str(prefix / "lib" / "python3.11" / "site-packages" / "mcp_server_vllm"))
    path = prefix / script
    path.parent.mkdir()
    path.touch()
    assert this_server({}) == Entry(str(path), ())


def test_files_without_a_command_are_started_by_the_python_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry, "ROOT", str(tmp_path))
    monkeypatch.setattr(entry, "is_clone", lambda: False)
    assert this_server({}) == Entry(sys.executable, (str(tmp_path / "vllm_server.py"),))


@pytest.mark.parametrize("folder", ["archive-v0", "environments-v12"])
def test_environment_of_uvx_is_started_by_uvx(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    (tmp_path / "archive-v0").rename(tmp_path / folder)
    monkeypatch.setattr(entry, "ROOT", str(installed / "mcp_server_vllm").replace("archive-v0", folder))
    assert this_server({"A": "b"}) == Entry("uvx", ("mcp-server-vllm",), {"A": "b"})


@pytest.mark.parametrize(
    ("direct_url", "source"),
    [
        (None, None),
        ({"url": "file:///w/a.whl", "archive_info": {}}, "mcp-server-vllm @ file:///w/a.whl"),
        (
            {"url": "https://h/r", "vcs_info": {"vcs": "git", "commit_id": "12ab"}},
            "mcp-server-vllm @ git+https://h/r@12ab",
        ),
        (
            {"url": "https://h/r", "vcs_info": {"vcs": "git", "commit_id": "12ab", "requested_revision": "v1"}},
            "mcp-server-vllm @ git+https://h/r@v1",
        ),
    ],
)
def test_uvx_installs_it_from_where_it_came(
    installed: Path, direct_url: dict[str, object] | None, source: str | None
) -> None:
    of_dist(installed, direct_url)
    assert this_server({}).args == (("--from", source) if source else ()) + ("mcp-server-vllm",)


@pytest.mark.parametrize("direct_url", [None, {"url": "file:///w/a.whl", "archive_info": {}}])
def test_uvx_installs_the_extra_again(installed: Path, direct_url: dict[str, object] | None) -> None:
    of_dist(installed, direct_url)
    (installed / "av").mkdir()
    (installed / "numpy").mkdir()
    _, source, _ = this_server({}).args
    assert source.startswith("mcp-server-vllm[media]")


def test_uvx_can_be_asked_for() -> None:
    assert this_server({}, by_uvx=True) == Entry("uvx", ("mcp-server-vllm",))
