"""The settings as a whole: problems, warnings, precedence, and the environment that is left for others."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from settings import DEMO_MODEL, initialize, read, rows

ROOT = Path(__file__).parents[2]


def test_every_wrong_value_is_told() -> None:
    found = read({"VLLM_DTYPE": "x", "VLLM_MAX_SESSIONS": "x", "VLLM_LOG_LEVEL": "DEBUG"})
    assert len(found.problems) == 2
    assert found.server.log_level == "DEBUG"


@pytest.mark.parametrize("tokens", ["with space", "umläut", "line\nbreak", ",", '["a", ""]'])
def test_token_that_no_header_can_carry_is_a_problem_that_does_not_show_it(tokens: str) -> None:
    (problem,) = read({"VLLM_HTTP_TOKENS": tokens}).problems
    assert problem.startswith("The setting VLLM_HTTP_TOKENS is not shown; allowed: ")


@pytest.mark.parametrize("tokens", ["with space", "${TOKEN}", ","])
def test_tokens_that_cannot_be_used_let_nobody_in(tokens: str) -> None:
    (first,), (second,) = (read({"VLLM_HTTP_TOKENS": tokens}).http.tokens for _ in range(2))
    assert len(first) == 64
    assert first != second


@pytest.fixture
def drive_c(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Windows' drive as WSL has it, with a folder `Me`."""
    monkeypatch.setattr("settings.windows_paths._MOUNTS", (f"{tmp_path}/",))
    (tmp_path / "c" / "Me").mkdir(parents=True)
    return tmp_path / "c"


@pytest.mark.parametrize(
    ("variable", "text", "field", "meant"),
    [
        ("VLLM_ALLOWED_MEDIA_DIRS", r"C:\Me", "allowed_dirs", ["Me"]),
        ("VLLM_ALLOWED_MEDIA_DIRS", r"c:/Me:C:\Me,C:\Me\new", "allowed_dirs", ["Me", "Me", "Me/new"]),
        ("OMNI_OUTPUT_DIR", r"C:\Me\made", "output_dir", "Me/made"),
        ("VLLM_MODEL_NAME", r"C:\Me", "model_name", "Me"),
        ("VLLM_SESSION_DB", r"C:\Me\s.db", "session_db", "Me/s.db"),
    ],
)
def test_path_of_windows_means_what_is_there(
    drive_c: Path, variable: str, text: str, field: str, meant: str | list[str]
) -> None:
    found = read({variable: text})
    (value,) = (
        getattr(part, field) for part in (found.media, found.omni, found.engine, found.sessions) if hasattr(part, field)
    )
    assert value == (str(drive_c / meant) if isinstance(meant, str) else tuple(str(drive_c / name) for name in meant))
    assert not found.problems


@pytest.mark.parametrize("variable", ["VLLM_ALLOWED_MEDIA_DIRS", "VLLM_LOG_FILE", "VLLM_ENV_FILE", "VLLM_MODEL_NAME"])
def test_path_of_windows_that_means_nothing_here_is_a_problem(drive_c: Path, variable: str) -> None:
    (problem,) = read({variable: r"D:\nowhere\x"}).problems
    assert problem.startswith(f"The setting {variable} is ")
    assert problem.endswith("WSL has the drive C: at /mnt/c.")


def test_comma_in_the_name_of_a_folder_that_is_there_separates_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "2026, summer"
    folder.mkdir()
    found = read({"VLLM_ALLOWED_MEDIA_DIRS": f"/a:{folder}:/b"})
    assert found.media.allowed_dirs == ("/a", str(folder), "/b")


def test_allowed_folder_that_is_not_there_is_a_warning(tmp_path: Path) -> None:
    found = read({"VLLM_ALLOWED_MEDIA_DIRS": f"{tmp_path},{tmp_path}/none"})
    assert found.problems == ()
    assert found.warnings == (f"VLLM_ALLOWED_MEDIA_DIRS names {tmp_path}/none, which does not exist.",)


@pytest.mark.parametrize(("transport", "default"), [("stdio", None), ("http", ()), ("sse", ())])
def test_files_are_read_nowhere_over_http_unless_folders_are_named(transport: str, default: object) -> None:
    assert read({"VLLM_TRANSPORT": transport}).media.allowed_dirs == default
    assert read({"VLLM_TRANSPORT": transport, "VLLM_ALLOWED_MEDIA_DIRS": "/a"}).media.allowed_dirs == ("/a",)


def test_environment_keeps_nothing_of_this_server_and_everything_of_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("settings.working_folder.leave", lambda: None)
    entries = '{"providers": [{"name": "lab", "base_url": "https://lab.example/v1", "api_key_env": "LAB_KEY"}]}'
    (tmp_path / "providers.json").write_text(entries)
    (tmp_path / "more.env").write_text("OPENAI_API_KEY=secret\nHF_ENDPOINT=https://hf.example\n")
    own = {
        **dict.fromkeys((row.variable for row in rows() if row.variable.endswith("_KEY")), "secret"),
        "LAB_KEY": "secret",
        "VLLM_HTTP_TOKENS": "secret",
        "VLLM_MEDIA_FETCH_TIMEOUT": "7.5",
        "VLLM_VIDEO_FETCH_TIMEOUT": "7.5",
        "GPU_IDLE_TIMEOUT": "0",
        "VLLM_ENGINE_DIR": "/engine",
        "VLLM_CONFIG_FILE": str(tmp_path / "providers.json"),
        "VLLM_ENV_FILE": str(tmp_path / "more.env"),
    }
    others = {
        "HF_TOKEN": "hf",
        "HUGGING_FACE_HUB_TOKEN": "hf",
        "HF_HUB_CACHE": "/hub",
        "SSL_CERT_FILE": "/ca.pem",
        "HTTPS_PROXY": "http://proxy:1",
        "VLLM_USE_V2": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1",
        "HOME": "/home/me",
    }
    environment = own | others
    found = initialize(environment, {})
    assert environment == others | {"HF_ENDPOINT": "https://hf.example"}
    assert found.problems == ()
    assert found.more_providers[0].api_key == found.providers.openai_api_key == found.http.tokens[0] == "secret"
    assert found.media.fetch_timeout_s == 7.5


def test_spaces_around_a_value_do_not_count() -> None:
    assert read({"VLLM_MAX_SESSIONS": " 5\n"}).sessions.max_sessions == 5


def test_command_line_wins() -> None:
    assert read({"VLLM_LOG_LEVEL": "DEBUG"}, {"VLLM_LOG_LEVEL": "ERROR"}).server.log_level == "ERROR"


def test_longer_name_of_the_token_wins() -> None:
    assert read({"HUGGING_FACE_HUB_TOKEN": "a", "HF_TOKEN": "b"}).engine.hf_token == "a"
    assert read({"HUGGING_FACE_HUB_TOKEN": "", "HF_TOKEN": "b"}).engine.hf_token == "b"


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({}, os.path.expanduser("~/.cache/huggingface/hub")),
        ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub"),
        ({"XDG_CACHE_HOME": "/x", "HF_HOME": "/h"}, "/h/hub"),
        ({"XDG_CACHE_HOME": "/x", "HF_HOME": "/h", "HF_HUB_CACHE": "/c"}, "/c"),
    ],
)
def test_downloads_are_looked_for_where_hugging_face_puts_them(environment: dict[str, str], folder: str) -> None:
    assert read(environment).engine.hf_cache == folder


def test_variables_of_others_are_left_alone() -> None:
    assert read({"PATH": "/bin", "VLLM_USE_SOMETHING": "x", "LANG": "C"}) == read({})


def test_defaults_are_those_of_the_readme() -> None:
    found = read({})
    assert found.problems == ()
    assert found.engine.model_name == DEMO_MODEL
    assert found.server.max_result_bytes == 1_000_000
    assert found.sampling.temperature == 0.7
    assert not found.engine.preload


@pytest.mark.parametrize(
    "url",
    [
        "localhost:6655",
        "ftp://h",
        "http://",
        "http://me:pw@h",
        "http://h?x=1",
        "http://h#x",
        "http://h:0",
        "http://a b",
    ],
)
def test_addresses_of_servers_are_checked(url: str) -> None:
    found = read({"OMNI_URL": url})
    assert found.omni.url == "http://localhost:6655"
    (problem,) = found.problems
    assert "OMNI_URL" in problem
    assert "pw" not in problem


def test_address_without_its_beginning_is_told_what_it_lacks() -> None:
    for variable, text in (("OMNI_URL", "localhost:6655"), ("VLLM_BASE_URL", "gpu.lan/v1")):
        (problem,) = read({variable: text}).problems
        assert problem.endswith("query or fragment. Begin it with http:// or https://.")
    (problem,) = read({"VLLM_PROXY_URL": "http://me:word@proxy:3128/path"}).problems
    assert "word" not in problem.replace("user:password", "")


def test_example_with_several_models_is_what_the_page_shows_and_fits_on_a_gpu() -> None:
    page = (ROOT / "docs" / "several-models.md").read_text(encoding="utf-8")
    block = re.search(r"^```json\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert block is not None
    example = json.loads((ROOT / "examples" / "clients" / "several-models.json").read_text(encoding="utf-8"))
    assert json.loads(block[1]) == example
    found = read(example["mcpServers"]["vllm"]["env"])
    assert found.problems == ()
    models = found.engine.by_name()
    assert list(models) == ["Qwen/Qwen2.5-VL-3B-Instruct", "small", "long", "hear"]
    assert sum(each.gpu_memory_utilization for each in models.values()) <= 1
