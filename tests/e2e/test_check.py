"""`--check` in a process of its own: the table, the exit status, and that nothing is changed or left behind."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from tests.e2e.processes import assert_all_end
from tests.e2e.server_process import LOAD_S, ROOT, SERVER, ServerProcess, client_environment
from tests.scripted_omni import ScriptedOmni
from tests.scripted_openai import ScriptedOpenAI

ROW = re.compile(r"(\S.*?) +(ok|warning|problem|off) +(.+)")
NOBODY = "http://127.0.0.1:1"

Rows = dict[str, tuple[str, str]]


def check(folder: Path, *options: str, python: str = sys.executable, **environment: str) -> tuple[int, Rows, str]:
    """Runs a check in a folder; its exit status, state and text by row, and the last lines."""
    done = subprocess.run(
        [*python.split(" "), str(SERVER), *(options or ("--check",))],
        cwd=folder,
        env=client_environment(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LOAD_S,
    )
    table, _, end = done.stdout.partition("\n\n")
    assert end, done.stdout + done.stderr
    rows: Rows = {}
    for line in table.splitlines():
        found = ROW.fullmatch(line)
        assert found, line
        rows.setdefault(found[1], (found[2], found[3]))
    return done.returncode, rows, end


def test_default_settings_have_no_problem_and_nothing_is_changed(model: dict[str, str], tmp_path: Path) -> None:
    status, rows, end = check(tmp_path, **model)
    assert status == 0, rows
    assert {"settings", "python", "packages", "vllm", "model", "output folder", "sessions"} <= set(rows)
    assert rows["answer"][0] == "off"
    assert rows["model"][0] == "ok"
    assert "No problem found" in end
    assert list(tmp_path.iterdir()) == []


def test_each_problem_says_what_to_do_and_no_key_is_shown(tmp_path: Path) -> None:
    (tmp_path / "other.db").write_bytes(b"SQLite format 3\0".ljust(200, b"\0"))
    (tmp_path / "file").write_text("")
    status, rows, end = check(
        tmp_path,
        VLLM_DTYPE="int3",
        VLLM_BASE_URL=NOBODY,
        VLLM_REMOTE_API_KEY="sesame-1",
        OMNI_URL=NOBODY,
        OMNI_API_KEY="sesame-2",
        HUGGING_FACE_HUB_TOKEN="sesame-3",
        OMNI_OUTPUT_DIR=str(tmp_path / "file"),
        VLLM_SESSION_DB=str(tmp_path / "other.db"),
        VLLM_ALLOWED_MEDIA_DIRS=str(tmp_path / "none"),
    )
    assert status == 1
    expected = {
        "settings": "VLLM_DTYPE",
        "model server": "VLLM_BASE_URL",
        "images": "OMNI_URL",
        "output folder": "OMNI_OUTPUT_DIR",
        "sessions": "VLLM_SESSION_DB",
        "media folders": "VLLM_ALLOWED_MEDIA_DIRS",
    }
    assert {subject for subject, (state, _) in rows.items() if state == "problem"} == set(expected)
    for subject, words in expected.items():
        assert words in rows[subject][1]
    assert "6 problems" in end
    assert "sesame" not in str(rows)


def test_servers_that_answer_are_told_with_what_they_have(tmp_path: Path) -> None:
    with ScriptedOpenAI() as models, ScriptedOmni() as omni:
        status, rows, _ = check(
            tmp_path, VLLM_BASE_URL=models.url, OMNI_URL=omni.url, OMNI_VIDEO_MODELS=f"wan={omni.url}"
        )
        seen = [path for _, path, _ in omni.seen]
    assert status == 1  # the one that was named for videos makes images
    assert rows["model server"] == ("ok", f"{models.url} is vLLM 0.32.0; scripted-vlm is used. It has scripted-vlm.")
    assert rows["vllm"][0] == rows["gpu"][0] == "off"
    assert rows["images"][0] == "ok"
    assert rows["video wan"][0] == "problem"
    assert models.chats() == []
    assert not any(path.startswith("/v1/images") for path in seen)


def test_options_of_the_command_line_are_checked_too(tmp_path: Path) -> None:
    _, rows, _ = check(tmp_path, "--check", "--vllm-url", NOBODY, "--output-dir", str(tmp_path / "here"))
    assert rows["images"][0] == "problem"
    assert str(tmp_path / "here") in rows["output folder"][1]


def test_names_that_no_tool_has_are_told(tmp_path: Path) -> None:
    _, rows, _ = check(tmp_path, "--check", "--slim", VLLM_TOOLS="-generate_imgae", OMNI_URL=NOBODY)
    assert rows["settings"][0] == "warning"
    assert "Did you mean generate_image?" in rows["settings"][1]
    assert rows["providers"][0] == "off"


def test_transport_and_providers_are_checked(tmp_path: Path) -> None:
    with ScriptedOpenAI() as service:
        _, rows, _ = check(
            tmp_path,
            *("--check", "--transport", "http", "--host", "0.0.0.0", "--port", "0"),
            OPENAI_API_KEY="sesame",
            OPENAI_BASE_URL=service.url,
        )
    assert rows["transport"][0] == "problem"
    assert "Set VLLM_HTTP_TOKENS" in rows["transport"][1]
    assert rows["provider openai"] == ("ok", f"{service.url} responds; models: 1.")
    assert rows["provider dashscope"][0] == "off"


def test_python_without_the_packages_is_told_how_to_get_them(tmp_path: Path) -> None:
    (tmp_path / "msgspec").symlink_to(Path(msgspec.__file__).parent)
    status, rows, _ = check(tmp_path, python=f"{sys.executable} -S", PYTHONPATH=str(tmp_path))
    assert status == 1
    for subject, command in (("packages", str(ROOT / "scripts" / "setup")), ("vllm", "`scripts/demo`")):
        state, text = rows[subject]
        assert state == "problem"
        assert command in text


def test_load_has_the_real_model_answer(model: dict[str, str], tmp_path: Path) -> None:
    status, rows, end = check(tmp_path, "--check=load", **model, TMPDIR=str(tmp_path))
    assert status == 0, (rows, end)
    state, text = rows["answer"]
    assert state == "ok", text
    assert re.search(r"loaded in \d+\.\d s, text prompt in \d+\.\d\d s \(\d+ tokens\), image prompt in \d", text)
    assert end == "Everything that is configured works.\n"
    assert [path for path in tmp_path.iterdir() if path.name.startswith("vllm-check")] == []


def test_load_that_fails_keeps_its_log(tmp_path: Path) -> None:
    status, rows, end = check(tmp_path, "--check=load", VLLM_MODEL_NAME="/nowhere/model", TMPDIR=str(tmp_path))
    assert status == 1
    assert rows["model"][0] == rows["answer"][0] == "problem"
    assert "VLLM_MODEL_NAME" in rows["answer"][1]
    (log,) = tmp_path.iterdir()
    assert f"is in {log}." in end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_a_check_at_once_and_is_no_success(
    number: signal.Signals, model: dict[str, str], tmp_path: Path
) -> None:
    with ServerProcess({**model, "TMPDIR": str(tmp_path)}, ["--check=load"]) as process:
        until_s = time.monotonic() + LOAD_S
        while "importing vLLM" not in process.stderr and time.monotonic() < until_s:
            time.sleep(0.02)
        others = process.descendants()
        process.signal(number)
        assert process.wait() == 128 + number
        assert_all_end(others)
