"""The bundle: built from the wheel, checked by its own tool, and started as Claude Desktop starts it."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from release import bundle
from release.names import FIELDS
from settings import SERVER_VERSION
from tests.e2e.installed_server import Installed
from tests.e2e.node_environments import node_environment
from tests.e2e.package import WHEEL, build
from tests.e2e.server_process import ROOT, client_environment
from tests.e2e.tour import documents, generate_image, initialize, remote_chat, view

Json = dict[str, Any]
PROGRAM = Path("@anthropic-ai", "mcpb", "dist", "cli", "cli.js")
MAX_BYTES = 1 << 20
TIMEOUT_S = 120


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    build(ROOT, "wheel", folder)
    return folder / WHEEL


@pytest.fixture(scope="module")
def built(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle, made by the command that a release runs."""
    folder = tmp_path_factory.mktemp("bundle")
    done = bundled(wheel, folder)
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="module")
def unpacked(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the bundle, as the official tool unpacks it."""
    folder = tmp_path_factory.mktemp("unpacked")
    mcpb("unpack", built, folder)
    return folder


def bundled(wheel: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs the command that makes a bundle."""
    command = [sys.executable, "-m", "release.bundle", str(wheel), str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S)


def mcpb(*arguments: str | Path) -> str:
    """What the official tool prints."""
    installed = node_environment("mcpb")
    command: list[str | Path] = [installed.node, installed.modules / PROGRAM, *arguments]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=client_environment(), timeout=TIMEOUT_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def manifest(folder: Path) -> Json:
    """The manifest of an unpacked bundle."""
    found: Json = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return found


def test_official_tool_accepts_the_manifest_and_its_icons(unpacked: Path) -> None:
    printed = mcpb("validate", unpacked / "manifest.json")
    assert "Manifest schema validation passes!" in printed
    assert "Icon validation passed" in printed


def test_official_tool_packs_the_same_files(built: Path, unpacked: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed.mcpb"
    mcpb("pack", unpacked, packed)
    with zipfile.ZipFile(built) as ours, zipfile.ZipFile(packed) as theirs:
        assert {name: ours.read(name) for name in ours.namelist()} == {
            name: theirs.read(name) for name in theirs.namelist() if not name.endswith("/")
        }


def test_bundle_is_small_and_has_neither_model_nor_launcher(built: Path, unpacked: Path) -> None:
    assert built.stat().st_size <= MAX_BYTES
    names = {path.name for path in unpacked.iterdir()}
    assert {"vllm_server.py", "engine", "docs", "LICENSE", "README.md", "icon.png"} <= names
    assert names.isdisjoint(bundle.LEFT_OUT | {"tests", "release"})
    assert {path.name for path in (unpacked / "scripts").iterdir()} == {"setup", "uv", "venv.sh"}  # they install vLLM


def test_same_wheel_gives_the_same_bytes(wheel: Path, built: Path, tmp_path: Path) -> None:
    assert bundle.build(wheel, tmp_path).read_bytes() == built.read_bytes()


def test_wheel_of_another_version_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "mcp_server_vllm-99.0.0-py3-none-any.whl"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("mcp_server_vllm-99.0.0.dist-info/METADATA", "")
    done = bundled(other, tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    expected = f"The bundle was not built: {other.name} is not a wheel of mcp-server-vllm {SERVER_VERSION}.\n"
    assert done.stderr == expected


@pytest.fixture
def installed(unpacked: Path, tmp_path: Path) -> Installed:
    """The server as the host starts it, with its own uv.

    The user left all fields empty: one has its default, the others are unfilled placeholders.
    """
    config = manifest(unpacked)["server"]["mcp_config"]
    arguments = [argument.replace("${__dirname}", str(unpacked)) for argument in config["args"]]
    fields = dict(config["env"])
    fields[FIELDS[0].variable] = ""
    return Installed((str(ROOT / "scripts" / "uv"), *arguments), client_environment(fields), tmp_path)


@pytest.mark.parametrize(
    "step", [initialize, remote_chat, generate_image, documents, view], ids=lambda step: step.__name__
)
def test_host_starts_it_from_the_bundle(installed: Installed, step: Callable[[Installed], None]) -> None:
    step(installed)


def test_manifest_lists_the_tools_of_the_server(installed: Installed, unpacked: Path) -> None:
    with installed.start() as server:
        server.initialize()
        tools = server.request("tools/list")["tools"]
    listed = [{"name": tool["name"], "description": tool["title"]} for tool in tools]
    assert manifest(unpacked)["tools"] == listed
