from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import pytest

import command_line
import settings
from settings import DEMO_MODEL, SECTIONS, kinds, read, rows
from settings.kinds import Kind

GOOD: list[tuple[str, str, str, Any]] = [
    ("server", "VLLM_LOG_LEVEL", "debug", "DEBUG"),
    ("server", "VLLM_LOG_FILE", "/tmp/log", "/tmp/log"),
    ("server", "VLLM_CALL_TIMEOUT", "25", 25.0),
    ("server", "VLLM_CALL_TIMEOUT", "0", 0.0),
    ("server", "VLLM_MAX_LINE_BYTES", "1024", 1024),
    ("server", "VLLM_MAX_RESULT_BYTES", "10000", 10_000),
    ("server", "VLLM_TOOLSETS", " chat , ,chat ", ("chat", "chat")),
    ("http", "VLLM_TRANSPORT", "HTTP", "http"),
    ("http", "VLLM_HTTP_PORT", "0", 0),
    ("http", "VLLM_HTTP_TOKENS", "one, two", ("one", "two")),
    ("http", "VLLM_HTTP_ALLOWED_HOSTS", "a.example,b", ("a.example", "b")),
    ("http", "VLLM_HTTP_SESSION_IDLE", "0.5", 0.5),
    ("engine", "VLLM_MODEL_NAME", "some/model", "some/model"),
    ("engine", "VLLM_DTYPE", "BFloat16", "bfloat16"),
    ("engine", "VLLM_MAX_MODEL_LEN", "1", 1),
    ("engine", "VLLM_TENSOR_PARALLEL_SIZE", "2", 2),
    ("engine", "VLLM_GPU_MEMORY_UTILIZATION", "1", 1.0),
    ("engine", "VLLM_QUANTIZATION", "fp8", "fp8"),
    ("engine", "VLLM_ENFORCE_EAGER", "True", True),
    ("engine", "VLLM_ENFORCE_EAGER", "0", False),
    ("engine", "VLLM_TRUST_REMOTE_CODE", "yes", True),
    ("engine", "VLLM_TRUST_REMOTE_CODE", "off", False),
    ("engine", "VLLM_MAX_IMAGES_PER_PROMPT", "0", 0),
    ("engine", "VLLM_MM_PROCESSOR_KWARGS", '{"size": {"longest_edge": 448}}', {"size": {"longest_edge": 448}}),
    (
        "engine",
        "VLLM_LORA_MODULES",
        "a=/x,b=rel/y  c=~/z=1",
        {"a": "/x", "b": os.path.abspath("rel/y"), "c": os.path.expanduser("~/z=1")},
    ),
    ("engine", "VLLM_LORA_MODULES", '{"my tone": "/with space/x,y"}', {"my tone": "/with space/x,y"}),
    ("engine", "VLLM_LORA_MODULES", "{}", {}),
    ("engine", "VLLM_EXTRA_ENGINE_ARGS", "{}", {}),
    ("engine", "VLLM_CPU_KVCACHE_SPACE", "0.25", 0.25),
    ("engine", "VLLM_ENABLE_SLEEP_MODE", "0", False),
    ("engine", "GPU_IDLE_TIMEOUT", "0", 0),
    ("engine", "GPU_IDLE_TIMEOUT", "2592000", 2_592_000),
    ("engine", "HF_HUB_CACHE", "/cache", "/cache"),
    ("engine", "HUGGING_FACE_HUB_TOKEN", "hf_x", "hf_x"),
    ("engine", "HF_TOKEN", "hf_x", "hf_x"),
    ("sampling", "VLLM_DEFAULT_TEMPERATURE", "2", 2.0),
    ("sampling", "VLLM_DEFAULT_MAX_TOKENS", "7", 7),
    ("sampling", "VLLM_DEFAULT_TOP_P", "0.5", 0.5),
    ("sampling", "VLLM_DEFAULT_TOP_K", "-1", -1),
    ("sampling", "VLLM_DEFAULT_TOP_K", "40", 40),
    ("sessions", "VLLM_MAX_SESSIONS", "3", 3),
    ("sessions", "VLLM_MAX_SESSION_MESSAGES", "2", 2),
    ("sessions", "VLLM_SESSION_DB", "/a/sessions.db", "/a/sessions.db"),
    ("sessions", "VLLM_SESSION_DB", "~/sessions.db", os.path.expanduser("~/sessions.db")),
    ("media", "VLLM_ALLOWED_MEDIA_DIRS", "/a::/b", ("/a", "/b")),
    ("media", "VLLM_ALLOWED_MEDIA_DIRS", "/a, /b:/c,", ("/a", "/b", "/c")),
    ("media", "VLLM_ALLOWED_MEDIA_DIRS", "/a;/b\n/c d", ("/a", "/b", "/c d")),
    ("media", "VLLM_ALLOWED_MEDIA_DIRS", "~,/b", (os.path.expanduser("~"), "/b")),
    ("media", "VLLM_ALLOWED_MEDIA_DIRS", '["/with, comma", "/b:c"]', ("/with, comma", "/b:c")),
    ("media", "VLLM_ALLOWED_MEDIA_HOSTS", "a.example b.example", ("a.example", "b.example")),
    ("media", "VLLM_ALLOWED_MEDIA_HOSTS", '"a.example","b.example"', ("a.example", "b.example")),
    ("media", "VLLM_ALLOWED_MEDIA_HOSTS", '["a.example", "b.example"]', ("a.example", "b.example")),
    ("http", "VLLM_HTTP_ALLOWED_HOSTS", "[::1]", ("[::1]",)),
    ("server", "VLLM_TOOLSETS", "chat vision", ("chat", "vision")),
    ("server", "VLLM_TOOLSETS", "Chat,GPU", ("chat", "gpu")),
    ("server", "VLLM_TOOLSETS", "all", ()),
    ("http", "VLLM_HTTP_TOKENS", '["a,b", "c"]', ("a,b", "c")),
    ("engine", "VLLM_EXTRA_ENGINE_ARGS", '{"download_dir": "~/m"}', {"download_dir": os.path.expanduser("~/m")}),
    ("server", "VLLM_LOG_FILE", "~/log", os.path.expanduser("~/log")),
    ("engine", "VLLM_MODEL_NAME", "~/models/mine", os.path.expanduser("~/models/mine")),
    ("engine", "VLLM_MODEL_NAME", "~maker/model", "~maker/model"),
    ("engine", "HF_HUB_CACHE", "~/cache", os.path.expanduser("~/cache")),
    ("omni", "OMNI_PROFILES", "~/p.toml", os.path.expanduser("~/p.toml")),
    ("media", "VLLM_ALLOWED_MEDIA_HOSTS", "a.example, b.example", ("a.example", "b.example")),
    ("media", "VLLM_MAX_IMAGE_BYTES", "1000", 1000),
    ("media", "VLLM_MAX_AUDIO_BYTES", "1000", 1000),
    ("media", "VLLM_MAX_VIDEO_BYTES", "1073741824", 1 << 30),
    ("media", "OMNI_MAX_AUDIO_S", "0.5", 0.5),
    ("media", "OMNI_MAX_AUDIO_S", "3600", 3600.0),
    ("media", "VLLM_VIDEO_FETCH_TIMEOUT", "3600", 3600.0),
    ("omni", "OMNI_URL", "http://192.168.1.50:6655/", "http://192.168.1.50:6655"),
    ("omni", "OMNI_URL", "https://[::1]/omni", "https://[::1]/omni"),
    ("omni", "OMNI_API_KEY", "sk-x", "sk-x"),
    ("omni", "OMNI_OUTPUT_DIR", "./out", os.path.abspath("out")),
    ("omni", "OMNI_OUTPUT_DIR", "~/out", os.path.expanduser("~/out")),
    ("omni", "OMNI_FILE_MODE", "0644", "0644"),
    ("omni", "OMNI_FILE_MODE", "640", "0640"),
    ("omni", "OMNI_FILE_MODE", "0o660", "0660"),
    ("omni", "OMNI_MAX_CONCURRENT", "Auto", None),
    ("omni", "OMNI_MAX_CONCURRENT", "8", 8),
    ("omni", "OMNI_TIMEOUT", "0.5", 0.5),
    ("omni", "OMNI_VIDEO_URL", "http://gpu:6656/", "http://gpu:6656"),
    (
        "omni",
        "OMNI_VIDEO_MODELS",
        "wan=http://a:1, longcat=https://b/v",
        {"wan": "http://a:1", "longcat": "https://b/v"},
    ),
    ("omni", "OMNI_VIDEO_MODELS", '{"my model": "http://a:1/"}', {"my model": "http://a:1"}),
    ("omni", "OMNI_VIDEO_TIMEOUT", "604800", 604_800.0),
    ("omni", "OMNI_JOB_TTL", "60", 60.0),
    ("providers", "OPENAI_API_KEY", "sk-x", "sk-x"),
    ("providers", "OPENAI_BASE_URL", "http://localhost:8000/v1/", "http://localhost:8000/v1"),
    ("providers", "DASHSCOPE_API_KEY", "sk-x", "sk-x"),
    (
        "providers",
        "DASHSCOPE_BASE_URL",
        "https://dashscope-intl.aliyuncs.com/x",
        "https://dashscope-intl.aliyuncs.com/x",
    ),
    ("providers", "VLLM_MAX_TEXT_BYTES", "1000", 1000),
    ("network", "VLLM_CA_FILE", "~/ca.pem", os.path.expanduser("~/ca.pem")),
    ("network", "SSL_CERT_FILE", "/etc/ca.pem", "/etc/ca.pem"),
    ("network", "SSL_CERT_FILE", "~/ca.pem", os.path.expanduser("~/ca.pem")),
    ("network", "SSL_CERT_DIR", "/etc/a:/etc/b", "/etc/a:/etc/b"),
    ("network", "SSL_CERT_DIR", "~/a:/etc/b", os.path.expanduser("~/a:/etc/b")),
    ("network", "VLLM_PROXY_URL", "http://user:word@proxy:3128/", "http://user:word@proxy:3128"),
    ("network", "VLLM_NO_PROXY", "localhost, .lan", ("localhost", ".lan")),
]
FOLDERS = "absolute folders separated by ':' or ',', or a JSON array of them"
NAMED_FOLDERS = (
    'name=folder pairs with different names, separated by commas or spaces, or a JSON object {"name": "folder"}'
)
NAMED_SERVERS = 'name=URL pairs with different names, separated by commas or spaces, or a JSON object {"name": "URL"}'
FIELDS = {
    entry.variable: (section, name)
    for section, cls in SECTIONS.items()
    for name, entry in settings._entries(cls)  # the one place that knows
} | {"HF_TOKEN": ("engine", "hf_token")}


@pytest.mark.parametrize(("section", "variable", "text", "value"), GOOD)
def test_value_is_read_into_its_section(section: str, variable: str, text: str, value: Any) -> None:
    found = read({variable: text})
    assert found.problems == ()
    assert FIELDS[variable][0] == section
    assert getattr(getattr(found, section), FIELDS[variable][1]) == value


@pytest.mark.parametrize(
    ("variable", "text", "allowed"),
    [
        ("VLLM_LOG_LEVEL", "LOUD", "DEBUG, INFO, WARNING, ERROR"),
        ("VLLM_CALL_TIMEOUT", "-1", "a number from 0 to 86400"),
        ("VLLM_CALL_TIMEOUT", "nan", "a number from 0 to 86400"),
        ("VLLM_CALL_TIMEOUT", "inf", "a number from 0 to 86400"),
        ("VLLM_CALL_TIMEOUT", "1e999", "a number from 0 to 86400"),
        ("VLLM_CALL_TIMEOUT", "25s", "a number from 0 to 86400"),
        ("OMNI_FILE_MODE", "0755", "rights in octal without execution, such as 0600, 0640 or 0644"),
        ("OMNI_FILE_MODE", "0444", "rights in octal without execution, such as 0600, 0640 or 0644"),
        ("OMNI_FILE_MODE", "rw-r--r--", "rights in octal without execution, such as 0600, 0640 or 0644"),
        ("OMNI_FILE_MODE", "888", "rights in octal without execution, such as 0600, 0640 or 0644"),
        ("OMNI_FILE_MODE", "-600", "rights in octal without execution, such as 0600, 0640 or 0644"),
        ("VLLM_MAX_LINE_BYTES", "1023", "a whole number from 1024 to 1073741824"),
        ("VLLM_MAX_LINE_BYTES", "64MB", "a whole number from 1024 to 1073741824"),
        ("VLLM_MAX_RESULT_BYTES", "1e6", "a whole number from 10000 to 10000000"),
        ("VLLM_DTYPE", "int8", "auto, float16, bfloat16, float32"),
        ("VLLM_MAX_MODEL_LEN", "0", "a whole number ≥ 1"),
        ("VLLM_MAX_MODEL_LEN", "1.5", "a whole number ≥ 1"),
        ("VLLM_MAX_MODEL_LEN", "9" * 5000, "a whole number ≥ 1"),
        ("VLLM_GPU_MEMORY_UTILIZATION", "0", "a number above 0 and up to 1"),
        ("VLLM_GPU_MEMORY_UTILIZATION", "1.1", "a number above 0 and up to 1"),
        ("VLLM_ENFORCE_EAGER", "maybe", "1 or 0"),
        ("VLLM_MM_PROCESSOR_KWARGS", "[1]", 'a JSON object, for example {"key": 1}'),
        ("VLLM_MM_PROCESSOR_KWARGS", "{", 'a JSON object, for example {"key": 1}'),
        ("VLLM_EXTRA_ENGINE_ARGS", "null", 'a JSON object, for example {"key": 1}'),
        *(
            ("VLLM_LORA_MODULES", text, NAMED_FOLDERS)
            for text in ("a", "=x", "a=", "a=/x,a=/y", '{"a": 1}', '{"": "x"}')
        ),
        ("GPU_IDLE_TIMEOUT", "-1", "a whole number from 0 to 2592000"),
        ("GPU_IDLE_TIMEOUT", "nan", "a whole number from 0 to 2592000"),
        ("GPU_IDLE_TIMEOUT", "9" * 30, "a whole number from 0 to 2592000"),
        ("VLLM_DEFAULT_TEMPERATURE", "2.1", "a number from 0 to 2"),
        ("VLLM_DEFAULT_TOP_P", "0", "a number above 0 and up to 1"),
        ("VLLM_DEFAULT_TOP_K", "0", "-1 (off) or a whole number ≥ 1"),
        ("VLLM_MAX_SESSION_MESSAGES", "1", "a whole number ≥ 2"),
        ("VLLM_SESSION_DB", "/a/folder/", "a file's path"),
        ("VLLM_ALLOWED_MEDIA_DIRS", "pictures", FOLDERS),
        ("VLLM_ALLOWED_MEDIA_DIRS", "/a,b", FOLDERS),
        ("VLLM_ALLOWED_MEDIA_DIRS", "/a /b", FOLDERS),
        ("VLLM_ALLOWED_MEDIA_DIRS", ",", FOLDERS),
        ("VLLM_ALLOWED_MEDIA_DIRS", "[]", FOLDERS),
        ("VLLM_ALLOWED_MEDIA_DIRS", "~nobody-has-this-name/x", FOLDERS),
        ("VLLM_SESSION_DB", "~nobody-has-this-name/x", "a file's path"),
        ("OMNI_OUTPUT_DIR", "a\0b", "a folder's path"),
        ("VLLM_ALLOWED_MEDIA_DIRS", "/a:b", FOLDERS),
        ("VLLM_IMAGE_FETCH_TIMEOUT", "0", "a number above 0 and up to 600"),
        *(
            ("OMNI_VIDEO_MODELS", text, NAMED_SERVERS)
            for text in ("wan", "wan=gpu:1", "=http://a", "a=http://a,a=http://b", '{"a": 1}', "a=file:///x")
        ),
        ("OMNI_VIDEO_TIMEOUT", "0", "a number above 0 and up to 604800"),
        ("VLLM_VIDEO_FETCH_TIMEOUT", "3601", "a number above 0 and up to 3600"),
        ("VLLM_MAX_AUDIO_BYTES", "999", "a whole number from 1000 to 1073741824"),
        ("VLLM_MAX_VIDEO_BYTES", "1073741825", "a whole number from 1000 to 1073741824"),
        ("OMNI_MAX_AUDIO_S", "0", "a number above 0 and up to 3600"),
        ("OMNI_MAX_AUDIO_S", "nan", "a number above 0 and up to 3600"),
        ("VLLM_MAX_TEXT_BYTES", "999", "a whole number from 1000 to 67108864"),
        ("VLLM_CONFIG_FILE", "/folder/", "a file's path"),
        ("DASHSCOPE_BASE_URL", "dashscope", "an http or https URL without user name, query or fragment"),
    ],
)
def test_wrong_value_is_a_problem_with_name_value_and_what_is_allowed(variable: str, text: str, allowed: str) -> None:
    found = read({variable: text})
    shown = text if len(text) <= 100 else text[:100] + "…"
    assert found.problems == (f"The setting {variable} is {shown!r}; allowed: {allowed}.",)
    section, name = FIELDS[variable]
    assert getattr(found, section) == SECTIONS[section](), f"{name} must fall back to its default"


def test_every_wrong_value_is_told() -> None:
    found = read({"VLLM_DTYPE": "x", "VLLM_MAX_SESSIONS": "x", "VLLM_LOG_LEVEL": "DEBUG"})
    assert len(found.problems) == 2
    assert found.server.log_level == "DEBUG"


@pytest.mark.parametrize("text", ["", " ", "\t\n"])
def test_empty_value_counts_as_not_set(text: str) -> None:
    assert read(dict.fromkeys(FIELDS, text)) == read({})


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
    assert found.warnings == (f"VLLM_ALLOWED_MEDIA_DIRS names {tmp_path}/none, and there is no such folder.",)


@pytest.mark.parametrize(("transport", "default"), [("stdio", None), ("http", ()), ("sse", ())])
def test_files_are_read_nowhere_over_http_unless_folders_are_named(transport: str, default: object) -> None:
    assert read({"VLLM_TRANSPORT": transport}).media.allowed_dirs == default
    assert read({"VLLM_TRANSPORT": transport, "VLLM_ALLOWED_MEDIA_DIRS": "/a"}).media.allowed_dirs == ("/a",)


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


def test_defaults_are_values_that_could_be_set() -> None:
    for row in rows():
        section, name = FIELDS[row.variable]
        default = getattr(SECTIONS[section](), name)
        if isinstance(default, int | float | str) and default != "":
            text = str(int(default)) if isinstance(default, bool) else str(default)
            found = read({row.variable: text})
            assert found.problems == ()
            assert getattr(getattr(found, section), name) == default


def test_table_has_every_setting_once_with_all_its_cells() -> None:
    table = list(rows())
    assert [row.variable for row in table] == [variable for variable in FIELDS if variable != "HF_TOKEN"]
    assert len(table) == sum(len(cls.__struct_fields__) for cls in SECTIONS.values())
    for row in table:
        assert row.section in SECTIONS
        assert row.allowed
        assert row.meaning.endswith(".")
        assert "|" not in "".join((row.variable, row.default, row.allowed, row.meaning))


@pytest.mark.parametrize(
    ("kind", "text"),
    [(kinds.whole(0), " "), (kinds.number(0, math.inf), "nan"), (kinds.choice("a"), "b")],
)
def test_kinds_refuse_by_value_error(kind: Kind, text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        kind.parse(text)


# The command line


def test_options_stand_for_settings() -> None:
    options = ["--vllm-url", "http://h:1", "--output-dir", "o", "--max-concurrent", "2", "--timeout", "9"]
    overrides = command_line.parse(options).overrides
    assert overrides == {
        "OMNI_URL": "http://h:1",
        "OMNI_OUTPUT_DIR": "o",
        "OMNI_MAX_CONCURRENT": "2",
        "OMNI_TIMEOUT": "9",
    }
    assert read({"OMNI_URL": "http://elsewhere"}, overrides).omni.url == "http://h:1"


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


def test_no_options_are_no_overrides() -> None:
    assert command_line.parse([]) == command_line.CommandLine()


def test_transport_is_an_override() -> None:
    overrides = command_line.parse(["--transport", "HTTP", "--host", "::1", "--port", "0"]).overrides
    assert overrides == {"VLLM_TRANSPORT": "http", "VLLM_HTTP_HOST": "::1", "VLLM_HTTP_PORT": "0"}


@pytest.mark.parametrize("level", ["debug", "DEBUG"])
def test_log_level_is_an_override(level: str) -> None:
    assert command_line.parse(["--log-level", level]).overrides == {"VLLM_LOG_LEVEL": "DEBUG"}


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["--version"], 0), (["--help"], 0), (["--nope"], 2), (["x"], 2), (["--transport", "x"], 2)],
)
def test_other_options_print_and_exit(capsys: pytest.CaptureFixture[str], arguments: list[str], status: int) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.parse(arguments)
    assert ended.value.code == status
    written = capsys.readouterr()
    assert bool(written.out) == (status == 0)
    assert bool(written.err) == (status == 2)


def test_help_has_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command_line.parse(["--help"])
    written = capsys.readouterr().out
    assert all(row.variable in written and row.meaning in written for row in rows())


def test_address_without_its_beginning_is_told_what_it_lacks() -> None:
    for variable, text in (("OMNI_URL", "localhost:6655"), ("VLLM_BASE_URL", "gpu.lan/v1")):
        (problem,) = read({variable: text}).problems
        assert problem.endswith("query or fragment. Begin it with http:// or https://.")
    (problem,) = read({"VLLM_PROXY_URL": "http://me:word@proxy:3128/path"}).problems
    assert "word" not in problem.replace("user:password", "")
