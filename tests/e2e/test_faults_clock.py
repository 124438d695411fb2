"""The wall clock jumps, or the process stands still for a while: only the time that really passes counts."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.injections import JumpingClock
from tests.e2e.media_answers import error, facts
from tests.e2e.server_process import LOAD_S, ROOT, Json, ServerProcess
from tests.scripted_omni import ScriptedOmni

YEAR_S = 365.25 * 86_400
HELLO: Json = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, "temperature": 0}
ENDLESS: Json = {**HELLO, "max_tokens": 4000, "min_tokens": 4000, "ignore_eos": True}
SMALL: Json = {"prompt": "a", "width": 64, "height": 64}

WALL_CLOCK = re.compile(
    r"\btime\.time(?:_ns)?\b|\btime\.(?:strftime|localtime|gmtime)\(|\bdatetime\.(?:now|utcnow|today)"
)
SHOWN_OR_NAMED = {
    "http_client/refusals.py",  # a server says until when to wait as a date
    "engine/sessions/db_file.py",  # the name of a damaged file
    "engine/sessions/store.py",  # when sessions were made and used, which is shown
    "handlers/media_generation/jobs.py",
    "handlers/resources/resources.py",
    "mcp_protocol/log.py",
    "mcp_protocol/tasks/call_task.py",  # when tasks were made and updated, which is shown
    "mcp_protocol/tasks/methods.py",
    "omni/files/output_folder.py",  # the names of images
    "omni/jobs/job.py",
}
PRODUCT = (
    "engine",
    "handlers",
    "http_client",
    "mcp_protocol",
    "media",
    "omni",
    "operating_system",
    "sandbox",
    "settings",
)


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> JumpingClock:
    return JumpingClock(tmp_path_factory.mktemp("clock"))


@pytest.fixture(autouse=True)
def _right_again(clock: JumpingClock) -> Iterator[None]:
    yield
    clock.jump(0)


@pytest.fixture(scope="module")
def server(clock: JumpingClock, model: dict[str, str]) -> Iterator[ServerProcess]:
    """A server with the model loaded, which gives it back after ten minutes without use."""
    settings = {**model, "VLLM_CPU_KVCACHE_SPACE": "0.25", "GPU_IDLE_TIMEOUT": "600", **clock.environment}
    with ServerProcess(settings) as process:
        process.initialize()
        process.result("chat_completion", HELLO)
        yield process


def begin_endless(server: ServerProcess, timeout_s: float) -> None:
    """Sends a call that its deadline ends, and waits for its first text."""
    server.send_call("chat_completion", {**ENDLESS, "timeout_s": timeout_s}, request_id="c", meta={"progressToken": 1})
    while server.read_message(LOAD_S)["params"]["progress"] < 1:
        pass


@pytest.mark.parametrize("years", [10, -10])
def test_clock_that_jumps_moves_no_deadline_and_ends_no_model(
    server: ServerProcess, clock: JumpingClock, years: float
) -> None:
    begin_endless(server, timeout_s=2)
    clock.jump(years * YEAR_S)
    answer = server.read_answer("c", LOAD_S)["result"]["structuredContent"]
    assert answer["finish_reason"] == "timeout"
    assert answer["timings"]["total_ms"] == pytest.approx(2000, rel=0.5)
    text = server.result("chat_completion", {**HELLO, "session_id": "s"})["text"]
    assert server.result("get_gpu_status")["state"] == "ready"
    clock.jump(0)
    assert server.result("chat_completion", HELLO)["text"] == text
    assert server.result("get_gpu_status")["state"] == "ready"


def test_process_that_stood_still_goes_on(server: ServerProcess) -> None:
    begin_endless(server, timeout_s=600)
    server.signal(signal.SIGSTOP)
    time.sleep(2)  # the fault itself
    server.signal(signal.SIGCONT)
    server.notify("notifications/cancelled", {"requestId": "c"})
    assert server.result("chat_completion", HELLO)["text"]


def test_clock_that_jumps_makes_no_job_older_or_younger(clock: JumpingClock, tmp_path: Path) -> None:
    with ScriptedOmni() as omni:
        omni.delay_s = 0.5
        settings = {"OMNI_URL": omni.url, "OMNI_OUTPUT_DIR": str(tmp_path / "out"), **clock.environment}
        with ServerProcess({**settings, "OMNI_JOB_TTL": "3600"}) as server:
            server.initialize()
            job_id = facts(server, "generate_image", {**SMALL, "wait_s": 0})["job_id"]
            clock.jump(10 * YEAR_S)
            made = facts(server, "job_status", {"job_id": job_id, "wait_s": 60})
            assert made["status"] == "success"
            facts(server, "generate_image", SMALL)  # whatever starts a job has old ones forgotten
            (_, listed) = server.result("list_jobs")["jobs"]
            assert listed["job_id"] == job_id
            assert listed["elapsed_seconds"] < 60
        clock.jump(0)
        with ServerProcess({**settings, "OMNI_JOB_TTL": "1"}) as server:
            server.initialize()
            job_id = facts(server, "generate_image", {**SMALL, "wait_s": 0})["job_id"]
            facts(server, "job_status", {"job_id": job_id, "wait_s": 60})
            clock.jump(-10 * YEAR_S)
            time.sleep(1.1)  # until its time is over
            assert job_id in error(server, "job_status", {"job_id": job_id})


def test_only_what_is_shown_is_read_off_the_wall_clock() -> None:
    """What steers anything goes by `time.monotonic`."""
    files = [path for folder in PRODUCT for path in sorted((ROOT / folder).rglob("*.py"))] + sorted(ROOT.glob("*.py"))
    found = {str(path.relative_to(ROOT)) for path in files if WALL_CLOCK.search(path.read_text(encoding="utf-8"))}
    assert found == SHOWN_OR_NAMED
