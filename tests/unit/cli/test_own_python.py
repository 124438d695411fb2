"""Which Python a clone runs with: one that has msgspec."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from cli.interpreter import require_msgspec


class Replaced(Exception):
    """The process runs another program now; `args` are its path and arguments."""


@pytest.fixture(autouse=True)
def _without_msgspec(monkeypatch: pytest.MonkeyPatch) -> None:
    def execv(path: str, arguments: list[str]) -> NoReturn:
        raise Replaced(path, arguments)

    monkeypatch.setitem(sys.modules, "msgspec", None)
    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setattr(sys, "argv", ["vllm_server.py", "--check"])


def environment(root: Path, *place: str) -> str:
    """Makes a file that looks like the Python of an environment."""
    python = root.joinpath(".venv", *place)
    python.parent.mkdir(parents=True)
    python.touch()
    return str(python)


def test_program_goes_on_with_the_python_of_the_environment(tmp_path: Path) -> None:
    python = environment(tmp_path, "bin", "python")
    with pytest.raises(Replaced) as caught:
        require_msgspec(str(tmp_path))
    assert caught.value.args == (python, [python, "vllm_server.py", "--check"])


def test_windows_names_that_python_and_does_not_replace_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, `os.execv` starts a new process and ends the one that the client holds."""
    monkeypatch.setattr(sys, "platform", "win32")
    python = environment(tmp_path, "Scripts", "python.exe")
    with pytest.raises(SystemExit, match=r"msgspec is not installed for .*\. Start it with ") as caught:
        require_msgspec(str(tmp_path))
    assert str(caught.value).endswith(f"{python}.")


@pytest.mark.parametrize("platform", ["linux", "win32"])
def test_without_an_environment_there_is_advice(platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    with pytest.raises(SystemExit, match="msgspec is not installed"):
        require_msgspec(str(tmp_path))
