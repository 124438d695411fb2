"""Files of variables: what they mean, what is wrong with them, and who wins."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from settings import read
from settings.env_file import parsed
from settings.text_file import MAX_FILE_BYTES, SettingFileError

SECRET = "sk-in-the-file-0123456789"
COMMON = [
    ("A=1", {"A": "1"}),
    ("A = 1 \nB=2", {"A": "1", "B": "2"}),
    ("\n# only words\n   # and more\nA=1\n\n", {"A": "1"}),
    ("export A=1\n  export  B=2", {"A": "1", "B": "2"}),
    ("A=a b  # a remark", {"A": "a b"}),
    ("A=a#b", {"A": "a#b"}),
    ("A=", {"A": ""}),
    ("A='a # \"b\" \\n'  # remark", {"A": 'a # "b" \\n'}),
    ('A="a # \'b\' \\"c\\" \\\\ \\n\\t"', {"A": "a # 'b' \"c\" \\ \n\t"}),
    ('A="one\ntwo"\nB=3', {"A": "one\ntwo", "B": "3"}),
    ("A=1\r\nB='2'\r\n", {"A": "1", "B": "2"}),
    ("A=1\nA=2", {"A": "2"}),
    ("A=$HOME ${B}", {"A": "$HOME ${B}"}),
    ("A=x=y==", {"A": "x=y=="}),
    ("A=é…", {"A": "é…"}),
    ("", {}),
]


@pytest.mark.parametrize(("text", "variables"), COMMON)
def test_common_form_is_read(text: str, variables: dict[str, str]) -> None:
    assert parsed(text) == variables


@pytest.mark.parametrize(("text", "variables"), COMMON)
def test_it_means_what_python_dotenv_takes_it_for(text: str, variables: dict[str, str], tmp_path: Path) -> None:
    dotenv = pytest.importorskip("dotenv")
    (tmp_path / "env").write_text(text, newline="")
    assert dict(dotenv.dotenv_values(tmp_path / "env", interpolate=False)) == variables


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        (f"A=1\n{SECRET}", 2, "must be NAME=value"),
        (f"1A={SECRET}", 1, "must be NAME=value"),
        (f"A-B={SECRET}", 1, "must be NAME=value"),
        (f"\nA='{SECRET}", 2, "has an unclosed '"),
        (f'A="{SECRET}\nB=2', 1, 'has an unclosed "'),
        (f"A='{SECRET}' {SECRET}", 1, "has text after the closing '"),
        (f"A=1\nB={SECRET}\0", 2, "holds a NUL"),
    ],
)
def test_wrong_line_is_named_and_not_shown(text: str, line: int, what: str) -> None:
    with pytest.raises(SettingFileError) as caught:
        parsed(text)
    assert f"line {line} {what}" in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "settings.env"
    file.write_text("﻿VLLM_MAX_SESSIONS=5\nOPENAI_API_KEY=from-file\nHF_HOME=/h\n", encoding="utf-8")
    return file


def test_variables_are_settings_like_any_other(path: Path) -> None:
    found = read({"VLLM_ENV_FILE": str(path)})
    assert found.problems == ()
    assert found.sessions.max_sessions == 5
    assert found.providers.openai_api_key == "from-file"
    assert found.engine.hf_cache == "/h/hub"
    assert found.from_env_file == {"VLLM_MAX_SESSIONS": "5", "OPENAI_API_KEY": "from-file", "HF_HOME": "/h"}


def test_environment_and_command_line_win(path: Path) -> None:
    found = read({"VLLM_ENV_FILE": str(path), "OPENAI_API_KEY": "real", "HF_HOME": " "}, {"VLLM_MAX_SESSIONS": "7"})
    assert (found.providers.openai_api_key, found.sessions.max_sessions) == ("real", 7)
    assert found.from_env_file == {"HF_HOME": "/h"}, "an empty variable counts as not set"


def test_wrong_value_in_the_file_is_a_problem_like_any_other(path: Path) -> None:
    path.write_text("VLLM_MAX_SESSIONS=none\n")
    assert read({"VLLM_ENV_FILE": str(path)}).problems == (
        "The setting VLLM_MAX_SESSIONS is 'none'; allowed: a whole number ≥ 1.",
    )


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda path: None, "cannot be read: No such file or directory"),
        (Path.mkdir, "is not a regular file"),
        (os.mkfifo, "is not a regular file"),
        (lambda path: path.write_bytes(b"A=\xff"), "is not text in UTF-8"),
        (lambda path: path.write_bytes(b"#" * (MAX_FILE_BYTES + 1)), "is larger than"),
        (lambda path: path.write_text("oops"), "line 1 must be NAME=value"),
    ],
)
def test_file_that_cannot_be_used_is_a_problem(path: Path, make: Callable[[Path], object], what: str) -> None:
    path.unlink()
    make(path)
    (problem,) = read({"VLLM_ENV_FILE": str(path)}).problems
    assert problem.startswith("The file that VLLM_ENV_FILE names ")
    assert what in problem


def test_no_file_is_read_by_itself(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    path.rename(path.parent / ".env")
    assert read({}).from_env_file == {}


def test_settings_never_show_a_key(path: Path) -> None:
    assert "from-file" not in repr(read({"VLLM_ENV_FILE": str(path)}))
