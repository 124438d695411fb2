"""The package `mcp-server-vllm`: built, installed without vLLM into an empty environment, and taken on the tour."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from settings import COMMAND
from tests.e2e.environments import new_environment, python_environment
from tests.e2e.installed_server import Installed
from tests.e2e.package import NAME, SDIST, WHEEL, build, build_both, output
from tests.e2e.server_process import ROOT, client_environment
from tests.e2e.tour import STEPS, initialize
from tests.unit.test_layers import MAY_IMPORT
from tests.unit.test_package import INCLUDED

MAX_WHEEL_BYTES = 6 << 20
"""Most of it is the demo model. A first start through uvx fetches it within the time that a host waits."""
NOT_LIGHT = {"vllm", "torch", "numpy", "av", "pynvml"}


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    build_both(folder)
    return folder


@pytest.fixture(scope="module")
def python(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel alone."""
    return new_environment(tmp_path_factory.mktemp("installed") / "venv", str(dist / WHEEL))


@pytest.fixture
def installed(python: Path, tmp_path: Path) -> Installed:
    """The installed command, as a host would start it."""
    return Installed((str(python.with_name(COMMAND)),), environment(tmp_path), new_folder(tmp_path))


def environment(home: Path, variables: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a host passes on, for a user without any files of their own."""
    return client_environment({"HOME": str(home), **(variables or {})})


def new_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    folder.mkdir()
    return folder


def test_both_files_are_valid_for_an_index(dist: Path) -> None:
    files = [dist / SDIST, dist / WHEEL]
    printed = output([python_environment("package"), "-m", "twine", "check", "--strict", *files], dist)
    assert printed.count("PASSED") == 2, printed
    assert files[1].stat().st_size < MAX_WHEEL_BYTES


def test_repository_and_sdist_give_the_same_wheel(dist: Path, tmp_path: Path) -> None:
    build(ROOT, "wheel", tmp_path)
    assert (tmp_path / WHEEL).read_bytes() == (dist / WHEEL).read_bytes()


def test_files_that_git_ignores_and_training_programs_are_not_in_the_wheel(dist: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(dist / NAME, copy)
    ignored = ("models/demo-vlm/checkpoints/1.pt", "settings/__pycache__/a.pyc", "mcp_server_vllm/__pycache__/a.pyc")
    for name in (*ignored, "models/demo-vlm/train.py", ".env", "tests/test_new.py", "new.py"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("")
    build(copy, "wheel", tmp_path)
    assert (tmp_path / WHEEL).read_bytes() == (dist / WHEEL).read_bytes()


def test_wheel_holds_the_files_of_the_repository(dist: Path) -> None:
    listed = output(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *INCLUDED], ROOT)
    known = {name for name in listed.split("\0") if name and (ROOT / name).exists()}
    wanted = {
        name if name.startswith("mcp_server_vllm/") else f"mcp_server_vllm/{name}"
        for name in known
        if not re.fullmatch(r"models/[\w-]+/\w+\.py", name)
    }
    with zipfile.ZipFile(dist / WHEEL) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == wanted


def test_only_the_launcher_can_be_imported(python: Path, tmp_path: Path) -> None:
    names = sorted(set(MAY_IMPORT) | NOT_LIGHT | {"models", "docs", "examples", "tests"})
    program = f"from importlib.util import find_spec; print([name for name in {names} if find_spec(name)])"
    assert output([python, "-c", program], tmp_path).strip() == "['mcp_server_vllm']"


def test_requirements_are_there_and_fit(python: Path, tmp_path: Path) -> None:
    output([ROOT / "scripts" / "uv", "pip", "check", "--python", python], tmp_path)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_tour(step: Callable[[Installed], None], installed: Installed) -> None:
    step(installed)


@pytest.mark.parametrize("options", [[], ["-P"], ["-I"]], ids=" ".join)
def test_module_starts_in_any_folder(options: list[str], python: Path, tmp_path: Path) -> None:
    folder = new_folder(tmp_path)
    for name in ("settings", "engine", "vllm_server", "msgspec"):
        (folder / f"{name}.py").write_text("raise RuntimeError('not the module of the server')")
    initialize(Installed((str(python), *options, "-m", "mcp_server_vllm"), environment(tmp_path), folder))


def test_texts_name_no_script_of_the_repository(installed: Installed) -> None:
    printed = [installed.run("--check")[1], installed.run("--help")[1]]
    with installed.start() as server:
        server.initialize()
        for tool in ("server_health", "model_info", "list_available_models"):
            printed.append(str(server.request("tools/call", {"name": tool, "arguments": {}})))
    assert [text for text in printed if "scripts/" in text or "vllm_server.py" in text] == []


def test_uvx_starts_the_wheel(dist: Path, tmp_path: Path) -> None:
    """uvx is `uv tool run`. Its first start makes an environment."""
    uvx = (str(ROOT / "scripts" / "uv"), "tool", "run", "--python", sys.executable, "--from", str(dist / WHEEL))
    initialize(Installed((*uvx, COMMAND), {**os.environ, "HOME": str(tmp_path)}, new_folder(tmp_path)))


def test_entry_for_a_client_starts_the_installed_command(installed: Installed) -> None:
    assert printed_entry(installed) == {"command": installed.command[0], "args": []}


def test_entry_for_a_client_starts_uvx_where_uvx_made_the_environment(dist: Path, tmp_path: Path) -> None:
    uvx = (str(Path(sys.executable).with_name("uvx")), "--quiet", "--python", sys.executable)
    folder, home = new_folder(tmp_path), {**os.environ, "HOME": str(tmp_path)}
    entry = printed_entry(Installed((*uvx, "--from", str(dist / WHEEL), COMMAND), home, folder))
    source = f"{COMMAND} @ file://{dist / WHEEL}"
    assert entry == {"command": "uvx", "args": ["--from", source, COMMAND]}
    initialize(Installed((*uvx, *entry["args"]), home, folder))


def printed_entry(installed: Installed) -> dict[str, Any]:
    """The entry that an installed server prints for Claude Desktop."""
    status, printed = installed.run("--print-config", "claude-desktop")
    assert status == 0, printed
    entry: dict[str, Any] = json.loads(printed)["mcpServers"]["vllm"]
    return entry


def test_editable_install_runs_the_clone(tmp_path: Path) -> None:
    python = new_environment(tmp_path / "venv", "--editable", str(ROOT))
    installed = Installed((str(python.with_name(COMMAND)),), environment(tmp_path), new_folder(tmp_path))
    initialize(installed)
    assert str(ROOT / "vllm_server.py") in output(
        [python, "-c", "import vllm_server; print(vllm_server.__file__)"], tmp_path
    )
