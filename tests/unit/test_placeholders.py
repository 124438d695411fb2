"""Values as hosts, `.env` files and shells leave them: unfilled placeholders, variables in paths, quotes, spaces."""

from __future__ import annotations

from pathlib import Path

import pytest

from settings import read, rows

VARIABLES = [*(row.variable for row in rows()), "HF_HUB_CACHE", "SSL_CERT_FILE", "SSL_CERT_DIR"]
PATHS = [
    ("server", "VLLM_LOG_FILE", "log_file"),
    ("engine", "VLLM_MODEL_NAME", "model_name"),
    ("engine", "HF_HUB_CACHE", "hf_cache"),
    ("sessions", "VLLM_SESSION_DB", "session_db"),
    ("omni", "OMNI_OUTPUT_DIR", "output_dir"),
    ("omni", "OMNI_PROFILES", "profiles"),
]


@pytest.mark.parametrize("variable", VARIABLES)
@pytest.mark.parametrize(
    "form", ["${%s}", "${env:%s}", "${input:%s}", "${%s:-}", "{env:%s}", "{{%s}}", "%%%s%%", "<%s>"]
)
def test_unfilled_placeholder_is_a_problem_that_names_it(variable: str, form: str) -> None:
    text = form % "NOT_FILLED_IN"
    found = read({variable: text})
    (problem,) = found.problems
    assert problem.startswith(f"The setting {variable} holds {text!r}. Your client did not fill in this placeholder: ")


@pytest.mark.parametrize(
    "text", ["${workspaceFolder}/s.db", "/data/${env:USER}/s.db", "$NOT_SET/s.db", "%APPDATA%/s.db"]
)
def test_placeholder_within_a_path_is_a_problem_too(text: str) -> None:
    found = read({"VLLM_SESSION_DB": text})
    assert len(found.problems) == 1
    assert found.sessions.session_db is None


def test_nothing_of_a_key_around_a_placeholder_is_shown() -> None:
    (problem,) = read({"OPENAI_API_KEY": "sk-secret${SUFFIX}"}).problems
    assert "${SUFFIX}" in problem
    assert "secret" not in problem


@pytest.mark.parametrize("key", ["sk-a$b", "$2b$12$abc", "a{b}c", "100%", "%a", "x${", "{}"])
def test_signs_of_placeholders_may_be_part_of_a_key(key: str) -> None:
    found = read({"OPENAI_API_KEY": key})
    assert found.problems == ()
    assert found.providers.openai_api_key == key


def test_field_that_the_user_of_an_extension_left_empty_is_not_set() -> None:
    assert read(dict.fromkeys(VARIABLES, "${user_config.some_field}")) == read({})


def test_what_javascript_writes_for_nothing_is_not_set() -> None:
    assert read(dict.fromkeys(VARIABLES, "undefined")) == read({})


@pytest.mark.parametrize(("section", "variable", "field"), PATHS)
@pytest.mark.parametrize("reference", ["$PLACE", "${PLACE}"])
def test_variables_are_filled_into_paths(section: str, variable: str, field: str, reference: str) -> None:
    found = read({variable: f"{reference}/x", "PLACE": "/srv"})
    assert found.problems == ()
    assert getattr(getattr(found, section), field) == "/srv/x"


def test_variables_are_filled_into_lists_of_folders() -> None:
    environment = {"VLLM_ALLOWED_MEDIA_DIRS": "$A,${B}/c", "VLLM_LORA_MODULES": "x=$A/x", "A": "/a", "B": "/b"}
    found = read(environment)
    assert found.media.allowed_dirs == ("/a", "/b/c")
    assert found.engine.lora_modules == {"x": "/a/x"}


def test_variable_that_stands_for_itself_is_a_problem() -> None:
    assert len(read({"VLLM_SESSION_DB": "${VLLM_SESSION_DB}"}).problems) == 1


@pytest.mark.parametrize("name", ["HF_HOME", "XDG_CACHE_HOME", "HF_TOKEN"])
def test_problem_of_a_variable_that_stands_for_a_setting_names_that_variable(name: str) -> None:
    (problem,) = read({name: "${NOT_FILLED_IN}"}).problems
    assert problem.startswith(f"The setting {name} holds ")


@pytest.mark.parametrize("text", ['"7"', "'7'", ' " 7 " ', "7\r", "\ufeff7", "\u200b7\n"])
def test_what_a_file_or_host_leaves_around_a_value_does_not_count(text: str) -> None:
    found = read({"VLLM_MAX_SESSIONS": text})
    assert found.problems == ()
    assert found.sessions.max_sessions == 7


@pytest.mark.parametrize("text", ['""', "''", '" "', "\ufeff"])
def test_quotes_around_nothing_are_nothing(text: str) -> None:
    assert read(dict.fromkeys(VARIABLES, text)) == read({})


def test_env_file_is_found_through_variables_and_tells_where_it_is_not(tmp_path: Path) -> None:
    (tmp_path / "mine.env").write_text("VLLM_MAX_SESSIONS=7\r\nOPENAI_API_KEY=${KEY}\r\n")
    found = read({"VLLM_ENV_FILE": '"$PLACE/mine.env"', "PLACE": str(tmp_path)})
    assert found.sessions.max_sessions == 7
    (problem,) = found.problems
    assert "OPENAI_API_KEY" in problem
    (problem,) = read({"VLLM_ENV_FILE": "${workspaceFolder}/mine.env"}).problems
    assert "VLLM_ENV_FILE" in problem


def test_env_file_of_a_windows_shell_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.env").write_bytes("VLLM_MAX_SESSIONS=7\r\n".encode("utf-16"))
    assert read({"VLLM_ENV_FILE": str(tmp_path / "mine.env")}).sessions.max_sessions == 7
