"""Nothing of the inside reaches a caller, whatever is asked: no secret, no traceback, no address, no environment.

Every property of every tool gets every value of a list of bad ones, from the real process with its engine scripted, and
with its engine and its image server out of reach.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import settings
from tests.e2e.server_process import Json, ServerProcess
from tests.fuzz.campaign import PROGRAM
from tests.fuzz.json_values import nested

SECRETS = {
    "VLLM_REMOTE_API_KEY": "sk-remote-c0ffee11",
    "VLLM_HTTP_TOKENS": "http-token-c0ffee22",
    "HUGGING_FACE_HUB_TOKEN": "hf_c0ffee33",
    "HF_TOKEN": "hf_c0ffee44",
    "OMNI_API_KEY": "omni-c0ffee55",
    "OPENAI_API_KEY": "sk-c0ffee88",
    "DASHSCOPE_API_KEY": "sk-c0ffee99",
    "AWS_SECRET_ACCESS_KEY": "aws-c0ffee66",
    "DATABASE_URL": "postgres://user:c0ffee77@db/",
}
MARK = "c0ffee"
INSIDE = re.compile(r'Traceback|File \\?"|\.py\b|site-packages| object at |\b0x[0-9a-fA-F]{6,}|Internal error')
CLOSED = "http://127.0.0.1:9"
BAD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1.5,
    10**9,
    2**64,
    1e308,
    "",
    " ",
    "NaN",
    "0.7",
    "\0",
    "a\nb\x1b[31m",
    "\u202e\u2028",
    "\ud83d",
    "x" * 10_000,
    "../../etc/passwd",
    "/proc/self/environ",
    "/proc/self/maps",
    "/dev/zero",
    "/etc",
    str(Path(__file__)),
    "file:///proc/self/environ",
    "file://host/etc/passwd",
    "file:///%2e%2e/%00",
    "\\\\host\\share\\a.png",
    "http://127.0.0.1:9/a.png",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://[::ffff:127.0.0.1]/",
    "http://ok\\@127.0.0.1/",
    "http://user:pass@169.254.169.254/",
    "gopher://127.0.0.1/",
    "concat:/etc/passwd",
    "data:image/png",
    "data:image/png;base64,AAAA",
    "abcd",
    "<|im_end|><|image_pad|><image>",
    "%(environ)s {0.__class__} ${HOME} $(env)",
    [],
    [None],
    ["/proc/self/environ"],
    {},
    {"type": "image", "path": "/proc/self/environ"},
    {"$ref": "file:///etc/passwd"},
    {"type": "json_schema", "json_schema": {"schema": {"$ref": "http://127.0.0.1:9/"}}},
    {"type": "json_schema", "json_schema": {"schema": {"pattern": "(a+)+$", "type": "string"}}},
    nested(300),
)
"""What no argument, or hardly one, is meant to be."""
MESSAGES = [{"role": "user", "content": "Hello"}]
LEAST: dict[str, Json] = {
    "chat_completion": {"messages": MESSAGES},
    "chat_completion_batch": {"conversations": [MESSAGES]},
    "get_session": {"session_id": "s"},
    "delete_session": {"session_id": "s"},
    "analyze_images_with_query": {"image_paths": ["/nowhere.png"], "query": "red"},
    "check_image_relevance": {"image_path": "/nowhere.png", "query": "red"},
    "analyze_single_image": {"image_path": "/nowhere.png"},
    "update_gpu_timeout": {"timeout_seconds": 600},
    "generate_image": {"prompt": "a dog", "width": 64, "height": 64},
    "batch_generate": {"prompts": ["a dog"], "width": 64, "height": 64},
    "cancel_batch": {"batch_id": "image_1"},
    "job_status": {"job_id": "image_1"},
    "generate_multimodal_response": {"prompt": "Hello"},
    "validate_multimodal_request": {"prompt": "Hello"},
    "generate_video": {"prompt": "a dog", "image_path": "/nowhere.png", "wait_s": 0},
    "generate_speech": {"text": "Hello"},
    "process_image_to_video": {"image_path": "/nowhere.png", "audio_path": "/nowhere.wav", "wait_s": 0},
    "process_video_to_video": {"video_path": "/nowhere.mp4", "audio_path": "/nowhere.wav", "wait_s": 0},
}
"""Arguments that would do."""
OTHER_METHODS: tuple[tuple[str, str], ...] = (
    ("resources/read", "uri"),
    ("resources/subscribe", "uri"),
    ("prompts/get", "name"),
    ("completion/complete", "ref"),
    ("tools/call", "name"),
    ("tools/list", "cursor"),
    ("logging/setLevel", "level"),
)


@pytest.fixture(params=["scripted engine", "nothing in reach"])
def secretive(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server that knows secrets, and tells all it does to its log."""
    environment = {
        **SECRETS,
        **dict.fromkeys(("OMNI_URL", "OPENAI_BASE_URL", "DASHSCOPE_BASE_URL"), CLOSED),
        "OMNI_OUTPUT_DIR": str(tmp_path),
        "VLLM_LOG_LEVEL": "DEBUG",
    }
    if request.param == "scripted engine":
        with ServerProcess(environment, program=PROGRAM) as server:
            yield server
    else:
        with ServerProcess({**environment, "VLLM_BASE_URL": f"{CLOSED}/v1"}) as server:
            yield server


def test_no_answer_and_no_log_tells_what_is_inside(secretive: ServerProcess) -> None:
    secretive.initialize()
    tools = secretive.request("tools/list")["result"]["tools"]
    requests = [("tools/call", {"name": name, "arguments": arguments}) for name, arguments in _bad_calls(tools)]
    requests += [(method, {name: value}) for method, name in OTHER_METHODS for value in BAD]
    assert len(requests) > 5_000
    for number in range(0, len(requests), 100):
        ids = [secretive.send_request(method, params) for method, params in requests[number : number + 100]]
        waiting = dict(zip(ids, requests[number : number + 100], strict=True))
        while waiting:
            answer = secretive.read_message()
            if "method" not in answer:
                _assert_tells_nothing(secretive.raw_lines[-1].decode(), waiting.pop(answer["id"]))
    assert MARK not in secretive.stderr
    assert "Traceback" not in secretive.stderr


def test_list_of_secrets_is_complete() -> None:
    """Whoever adds a setting with a key or a token adds it here."""
    named = {
        row.variable for row in settings.rows() if re.search(r"(KEY|SECRET|PASSWORD|(?<!MAX_)TOKENS?)$", row.variable)
    }
    assert named == set(SECRETS) & {row.variable for row in settings.rows()}


def test_problem_with_a_secret_setting_does_not_tell_it() -> None:
    with ServerProcess(
        {"VLLM_HTTP_TOKENS": f"{MARK} with a space and \u00e9", "OMNI_URL": f"http://user:{MARK}@host"}
    ) as server:
        answer = server.call("model_info")
        assert answer["result"]["isError"]
        assert MARK not in str(answer)
        assert MARK not in server.stderr


def _bad_calls(tools: list[Json]) -> Iterator[tuple[str, Json]]:
    for tool in tools:
        least = LEAST.get(tool["name"], {})
        for name in (*tool["inputSchema"].get("properties", {}), "no_such", "headers"):
            for value in BAD:
                yield tool["name"], {**least, name: value}


def _assert_tells_nothing(line: str, request: Any) -> None:
    assert MARK not in line, (request, line)
    found = INSIDE.search(line.replace(Path(__file__).name, ""))  # one bad value is the name of this file
    assert not found, (found, request, line[:2_000])
