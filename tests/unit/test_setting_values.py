"""Every setting's text and value, and the texts that are rejected."""

from __future__ import annotations

import os
from typing import Any

import pytest

import settings
from settings import SECTIONS, kinds, read, rows
from settings.kinds import Kind
from settings.omni import ImageLora

GOOD: list[tuple[str, str, str, Any]] = [
    ("server", "VLLM_LOG_LEVEL", "debug", "DEBUG"),
    ("server", "VLLM_LOG_FILE", "/tmp/log", "/tmp/log"),
    ("server", "VLLM_CALL_TIMEOUT", "25", 25.0),
    ("server", "VLLM_CALL_TIMEOUT", "0", 0.0),
    ("server", "VLLM_MAX_RESULT_BYTES", "10000", 10_000),
    ("server", "VLLM_TOOLSETS", " chat , ,chat ", ("chat", "chat")),
    ("http", "VLLM_TRANSPORT", "HTTP", "http"),
    ("http", "VLLM_HTTP_PORT", "0", 0),
    ("http", "VLLM_HTTP_TOKENS", "one, two", ("one", "two")),
    ("http", "VLLM_HTTP_ALLOWED_HOSTS", "a.example,b", ("a.example", "b")),
    ("engine", "VLLM_MODEL_NAME", "some/model", "some/model"),
    ("engine", "VLLM_DTYPE", "BFloat16", "bfloat16"),
    ("engine", "VLLM_MAX_MODEL_LEN", "1", 1),
    ("engine", "VLLM_TENSOR_PARALLEL_SIZE", "2", 2),
    ("engine", "VLLM_GPU_MEMORY_UTILIZATION", "1", 1.0),
    ("engine", "VLLM_SHARE_GPU", "Auto", "auto"),
    ("engine", "VLLM_UNLISTED_MODELS", "True", True),
    ("engine", "VLLM_UNLISTED_MODELS", "0", False),
    ("engine", "VLLM_PRELOAD", "yes", True),
    ("engine", "VLLM_PRELOAD", "off", False),
    ("engine", "VLLM_PRELOAD", "Import", "import"),
    ("engine", "VLLM_MAX_IMAGES_PER_PROMPT", "0", 0),
    ("engine", "VLLM_EXTRA_ENGINE_ARGS", '{"limits": {"image": 4}}', {"limits": {"image": 4}}),
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
    ("server", "VLLM_TOOLSETS", "slim,GPU", ("slim", "gpu")),
    ("server", "VLLM_TOOLS", "Generate_Image, *gpu*,-job_status", ("generate_image", "*gpu*", "-job_status")),
    ("http", "VLLM_HTTP_TOKENS", '["a,b", "c"]', ("a,b", "c")),
    ("engine", "VLLM_EXTRA_ENGINE_ARGS", '{"download_dir": "~/m"}', {"download_dir": os.path.expanduser("~/m")}),
    ("server", "VLLM_LOG_FILE", "~/log", os.path.expanduser("~/log")),
    ("engine", "VLLM_MODEL_NAME", "~/models/mine", os.path.expanduser("~/models/mine")),
    ("engine", "VLLM_MODEL_NAME", "~maker/model", "~maker/model"),
    ("engine", "HF_HUB_CACHE", "~/cache", os.path.expanduser("~/cache")),
    ("omni", "OMNI_PROFILES", "~/p.toml", os.path.expanduser("~/p.toml")),
    ("media", "VLLM_ALLOWED_MEDIA_HOSTS", "a.example, b.example", ("a.example", "b.example")),
    ("media", "VLLM_MAX_IMAGE_BYTES", "1000", 1000),
    ("media", "VLLM_MAX_MEDIA_BYTES", "1073741824", 1 << 30),
    ("media", "OMNI_MAX_AUDIO_S", "0.5", 0.5),
    ("media", "OMNI_MAX_AUDIO_S", "3600", 3600.0),
    ("media", "VLLM_MEDIA_FETCH_TIMEOUT", "7.5", 7.5),
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
    ("omni", "OMNI_SPEECH_URL", "http://gpu:6657/", "http://gpu:6657"),
    (
        "omni",
        "OMNI_VIDEO_MODELS",
        "wan=http://a:1, longcat=https://b/v",
        {"wan": "http://a:1", "longcat": "https://b/v"},
    ),
    ("omni", "OMNI_VIDEO_MODELS", '{"my model": "http://a:1/"}', {"my model": "http://a:1"}),
    ("omni", "OMNI_LORA_MODULES", "ink=~/ink,b=org/soft", {"ink": ImageLora("~/ink"), "b": ImageLora("org/soft")}),
    (
        "omni",
        "OMNI_LORA_MODULES",
        '{"my ink": "/a b", "soft": {"path": "/s", "scale": 0.5}}',
        {"my ink": ImageLora("/a b"), "soft": ImageLora("/s", 0.5)},
    ),
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
NAMED_LORAS = settings.omni.NAMED_LORAS.allowed
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
        ("OMNI_FILE_MODE", "0755", "permissions in octal without execution, such as 0600, 0640 or 0644"),
        ("OMNI_FILE_MODE", "0444", "permissions in octal without execution, such as 0600, 0640 or 0644"),
        ("OMNI_FILE_MODE", "rw-r--r--", "permissions in octal without execution, such as 0600, 0640 or 0644"),
        ("OMNI_FILE_MODE", "888", "permissions in octal without execution, such as 0600, 0640 or 0644"),
        ("OMNI_FILE_MODE", "-600", "permissions in octal without execution, such as 0600, 0640 or 0644"),
        ("VLLM_MAX_RESULT_BYTES", "1e6", "a whole number from 10000 to 10000000"),
        ("VLLM_DTYPE", "int8", "auto, float16, bfloat16, float32"),
        ("VLLM_MAX_MODEL_LEN", "0", "a whole number ≥ 1"),
        ("VLLM_MAX_MODEL_LEN", "1.5", "a whole number ≥ 1"),
        ("VLLM_MAX_MODEL_LEN", "9" * 5000, "a whole number ≥ 1"),
        ("VLLM_GPU_MEMORY_UTILIZATION", "0", "a number above 0 and up to 1"),
        ("VLLM_GPU_MEMORY_UTILIZATION", "1.1", "a number above 0 and up to 1"),
        ("VLLM_SHARE_GPU", "1", "off, auto"),
        ("VLLM_PRELOAD", "maybe", "1, 0 or import"),
        ("VLLM_EXTRA_ENGINE_ARGS", "[1]", 'a JSON object, for example {"key": 1}'),
        ("VLLM_EXTRA_ENGINE_ARGS", "{", 'a JSON object, for example {"key": 1}'),
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
        *(
            ("OMNI_VIDEO_MODELS", text, NAMED_SERVERS)
            for text in ("wan", "wan=gpu:1", "=http://a", "a=http://a,a=http://b", '{"a": 1}', "a=file:///x")
        ),
        *(
            ("OMNI_LORA_MODULES", text, NAMED_LORAS)
            for text in ("ink", "ink=", "=/a", "a=/x,a=/y", '{"a": 1}', '{"a": {"path": ""}}', '{"a": {"scale": 1}}')
        ),
        ("OMNI_LORA_MODULES", '{"a": {"path": "/x", "scale": 11}}', NAMED_LORAS),
        ("OMNI_VIDEO_TIMEOUT", "0", "a number above 0 and up to 604800"),
        ("VLLM_MEDIA_FETCH_TIMEOUT", "3601", "a number above 0 and up to 3600"),
        ("VLLM_MAX_MEDIA_BYTES", "999", "a whole number from 1000 to 1073741824"),
        ("VLLM_MAX_MEDIA_BYTES", "1073741825", "a whole number from 1000 to 1073741824"),
        ("OMNI_MAX_AUDIO_S", "0", "a number above 0 and up to 3600"),
        ("OMNI_MAX_AUDIO_S", "nan", "a number above 0 and up to 3600"),
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


@pytest.mark.parametrize("text", ["", " ", "\t\n"])
def test_empty_value_counts_as_not_set(text: str) -> None:
    assert read(dict.fromkeys(FIELDS, text)) == read({})


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
    assert [row.variable for row in table] == [
        variable for variable in FIELDS if variable not in {"HF_TOKEN", *settings.NOT_LISTED}
    ]
    assert len(table) <= 78
    for row in table:
        assert row.section in SECTIONS
        assert row.allowed
        assert row.meaning.endswith(".")
        assert "|" not in "".join((row.variable, row.default, row.allowed, row.meaning))


@pytest.mark.parametrize(
    ("kind", "text"),
    [(kinds.whole(0), " "), (kinds.number(0, 1), "nan"), (kinds.positive(1), "nan"), (kinds.choice("a"), "b")],
)
def test_kinds_refuse_by_value_error(kind: Kind, text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        kind.parse(text)
