"""Variables that look like a setting of ours, and vLLM's own, which do not."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from settings import other_variables, read, rows


@pytest.fixture
def vllm_that_knows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package vllm that cannot be imported; its list of variables is to be written."""
    package = tmp_path / "vllm"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    return package / "envs.py"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("VLLM_MODEL_NAM", "VLLM_MODEL_NAME"),
        ("VLLM_MODLE_NAME", "VLLM_MODEL_NAME"),
        ("VLLM_ALLOWED_MEDIA_DIR", "VLLM_ALLOWED_MEDIA_DIRS"),
        ("VLLM_MAX_SESSION", "VLLM_MAX_SESSIONS"),
        ("OMNI_OUTPUTDIR", "OMNI_OUTPUT_DIR"),
        ("GPU_IDLE_TIMEOUTS", "GPU_IDLE_TIMEOUT"),
        ("vllm_log_level", "VLLM_LOG_LEVEL"),
        ("VLLM-LOG-LEVEL", "VLLM_LOG_LEVEL"),
        (" VLLM_LOG_LEVEL", "VLLM_LOG_LEVEL"),
    ],
)
def test_slip_of_the_pen_is_a_problem_that_names_the_setting(name: str, meant: str) -> None:
    found = read({name: "x"})
    assert found.problems == (f"The variable {name} is not a setting of this server. Did you mean {meant}?",)
    assert found.warnings == ()


@pytest.mark.parametrize(
    ("name", "meant"),
    [("VLLM_MODEL", "VLLM_MODEL_NAME"), ("OMNI_URI", "OMNI_URL"), ("VLLM_MAX_TOKENS", "VLLM_DEFAULT_MAX_TOKENS")],
)
def test_name_that_is_less_alike_is_a_warning(name: str, meant: str) -> None:
    found = read({name: "x"})
    assert found.problems == ()
    (warning,) = found.warnings
    assert name in warning
    assert meant in warning
    assert read({name: "x", meant: "7" if "TOKENS" in meant else "http://x"}).warnings == ()


@pytest.mark.parametrize("name", ["VLLM_USE_SOMETHING", "OMNI_SERVER", "VLLM_MODEL_NAM ", "OPENAI_API_BASE", "HOME"])
def test_other_names_are_left_alone(name: str) -> None:
    found = read({name: "" if name.endswith(" ") else "x"})
    assert found.problems == found.warnings == ()


@pytest.mark.parametrize("name", other_variables.FORMER)
def test_former_setting_is_a_warning_that_names_its_replacement(name: str) -> None:
    found = read({name: "1"})
    assert found.problems == ()
    (warning,) = found.warnings
    assert warning.startswith(f"The variable {name} is no longer a setting of this server and is ignored. ")
    assert (other_variables.FORMER[name] or "Its value is fixed now") in warning
    assert read({name: " "}).warnings == ()


def test_replacements_of_former_settings_are_settings() -> None:
    replacements = {text.partition("=")[0] for text in other_variables.FORMER.values() if text}
    assert replacements <= {row.variable for row in rows()}
    assert not other_variables.FORMER.keys() & {row.variable for row in rows()}


def test_empty_variable_is_not_set() -> None:
    assert read({"VLLM_MODEL_NAM": " "}) == read({})


def test_variables_of_vllm_are_known_without_importing_it(vllm_that_knows: Path) -> None:
    assert read({"VLLM_API_KEYS": "x", "VLLM_AUDIO_FETCH_TIMEOUT": "5"}).warnings
    vllm_that_knows.write_text('environment_variables = {"VLLM_AUDIO_FETCH_TIMEOUT": int, "VLLM_MODEL_NAMES": str}')
    found = read({"VLLM_AUDIO_FETCH_TIMEOUT": "5", "VLLM_MODEL_NAMES": "x"})
    assert found.problems == found.warnings == ()


def test_no_variable_of_the_installed_vllm_is_mistaken_for_a_slip() -> None:
    theirs = other_variables._names_of_vllm()
    if not theirs:
        pytest.skip("vLLM is not installed")
    assert other_variables.misspelt(dict.fromkeys(theirs, "x"), [row.variable for row in rows()]) == ([], [])
