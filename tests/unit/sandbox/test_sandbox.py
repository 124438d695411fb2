"""What a child does to its process costs its own call one error; the next call is served, and nothing is left over."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from sandbox.cancellation import Cancellation
from sandbox.errors import (
    SandboxBusy,
    SandboxCancelled,
    SandboxCrashed,
    SandboxError,
    SandboxFailed,
    SandboxMemory,
    SandboxTimeout,
    SandboxUnavailable,
)
from sandbox.pool import Sandbox
from sandbox.result import Result

pytestmark = pytest.mark.slow

MEBIBYTE = 1 << 20
WAIT_S = 30.0
ROOT = Path(__file__).parents[3]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    made = Sandbox(n_children=2)
    yield made
    made.close()
    assert made.process_ids() == []


def run(sandbox: Sandbox, name: str, data: bytes | None = None, **arguments: Any) -> Any:
    return sandbox.run(
        f"tests.unit.sandbox.work:{name}",
        arguments,
        data=data,
        timeout_s=WAIT_S,
        memory_bytes=64 * MEBIBYTE,
        ceiling_bytes=128 * MEBIBYTE,
    ).value


def is_running(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def eventually(condition: Callable[[], bool]) -> bool:
    end_s = time.monotonic() + WAIT_S
    while not condition():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.01)
    return True


def test_nothing_is_started_before_the_first_call(sandbox: Sandbox) -> None:
    assert sandbox.process_ids() == []


@pytest.mark.parametrize("n_bytes", [0, 1, 65_536, 65_537, 3_000_000, 40_000_000])
def test_data_of_any_size_go_there_and_back(sandbox: Sandbox, n_bytes: int) -> None:
    data = os.urandom(min(n_bytes, 1 << 16)) * (n_bytes // (1 << 16)) + os.urandom(n_bytes % (1 << 16))
    for _ in range(2):
        result = sandbox.run(
            "tests.unit.sandbox.work:echoed",
            {"a": [1, "b", None]},
            data=data,
            timeout_s=WAIT_S,
            memory_bytes=200 * MEBIBYTE,
        )
        assert (result.value, result.data) == ({"a": [1, "b", None]}, data)


def test_a_child_is_used_again(sandbox: Sandbox) -> None:
    assert run(sandbox, "process_id") == run(sandbox, "process_id") != os.getpid()


def test_what_the_function_raises_comes_back_by_name_and_text(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxFailed, match="no such thing") as raised:
        run(sandbox, "raising", text="no such thing")
    assert raised.value.kind == "builtins.LookupError"
    assert run(sandbox, "echoed") == {}


def test_a_value_that_cannot_be_sent_is_an_error_of_the_call(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxFailed):
        run(sandbox, "unsendable")
    assert run(sandbox, "echoed") == {}


FAULTS: list[tuple[str, dict[str, Any], type[SandboxError]]] = [
    ("filled", {"n_bytes": 100 * MEBIBYTE}, SandboxMemory),
    ("filled", {"n_bytes": 200 * MEBIBYTE, "allowed": 1 << 40}, SandboxMemory),
    ("long_answer", {"n_bytes": 100 * MEBIBYTE}, SandboxMemory),
    ("leaving", {"status": 0}, SandboxCrashed),
    ("leaving", {"status": 2}, SandboxCrashed),
    ("crashed", {}, SandboxCrashed),
    ("crashed", {"number": signal.SIGABRT}, SandboxCrashed),
    ("crashed", {"number": signal.SIGKILL}, SandboxCrashed),
    ("crashed", {"number": signal.SIGXCPU}, SandboxTimeout),
]


@pytest.mark.parametrize(("name", "arguments", "error"), FAULTS)
def test_a_fault_costs_its_own_call_alone(
    sandbox: Sandbox, name: str, arguments: dict[str, Any], error: type[SandboxError]
) -> None:
    with pytest.raises(error):
        run(sandbox, name, **arguments)
    assert run(sandbox, "echoed", a=1) == {"a": 1}


def test_memory_can_be_raised_up_to_the_ceiling(sandbox: Sandbox) -> None:
    assert run(sandbox, "filled", n_bytes=100 * MEBIBYTE, allowed=120 * MEBIBYTE) == 100 * MEBIBYTE


def test_memory_is_bounded_by_measuring_where_the_system_does_not() -> None:
    sandbox = Sandbox(watch_memory=True)
    try:
        with pytest.raises(SandboxMemory):
            sandbox.run(
                "tests.unit.sandbox.swelling:swollen",
                {"n_bytes": 100 * MEBIBYTE},
                timeout_s=WAIT_S,
                memory_bytes=40 * MEBIBYTE,
            )
    finally:
        sandbox.close()


@pytest.mark.parametrize("name", ["busy", "asleep"])
def test_time_ends(sandbox: Sandbox, name: str) -> None:
    arguments = {"seconds": WAIT_S} if name == "asleep" else {}
    began_s = time.monotonic()
    with pytest.raises(SandboxTimeout):
        sandbox.run(f"tests.unit.sandbox.work:{name}", arguments, timeout_s=0.3, memory_bytes=MEBIBYTE)
    assert time.monotonic() - began_s < WAIT_S / 2
    assert run(sandbox, "echoed") == {}


def test_cancelling_ends_the_work_at_once(sandbox: Sandbox) -> None:
    cancellation = Cancellation()
    threading.Timer(0.2, cancellation.set).start()
    with pytest.raises(SandboxCancelled):
        sandbox.run(
            "tests.unit.sandbox.work:busy", {}, timeout_s=WAIT_S, memory_bytes=MEBIBYTE, cancellation=cancellation
        )


def test_child_of_a_cancelled_call_is_not_used_again(sandbox: Sandbox) -> None:
    cancellation = Cancellation()

    def take(result: Result) -> int:
        cancellation.set()
        return int(result.value)

    name = "tests.unit.sandbox.work:process_id"
    first = sandbox.run(name, {}, timeout_s=WAIT_S, memory_bytes=MEBIBYTE, cancellation=cancellation, take=take)
    assert run(sandbox, "process_id") != first


def test_cancelled_call_starts_nothing(sandbox: Sandbox) -> None:
    cancellation = Cancellation()
    cancellation.set()
    with pytest.raises(SandboxCancelled):
        sandbox.run(
            "tests.unit.sandbox.work:echoed", {}, timeout_s=WAIT_S, memory_bytes=MEBIBYTE, cancellation=cancellation
        )
    assert sandbox.process_ids() == []


def test_who_waits_for_a_child_can_be_cancelled_and_has_a_deadline() -> None:
    sandbox = Sandbox(n_children=1)
    try:
        with ThreadPoolExecutor(1) as threads:
            occupied = threads.submit(run, sandbox, "asleep", seconds=WAIT_S)
            assert eventually(lambda: bool(sandbox.process_ids()))
            with pytest.raises(SandboxBusy):
                sandbox.run("tests.unit.sandbox.work:echoed", {}, timeout_s=0.1, memory_bytes=MEBIBYTE)
            cancellation = Cancellation()
            threading.Timer(0.1, cancellation.set).start()
            with pytest.raises(SandboxCancelled):
                sandbox.run(
                    "tests.unit.sandbox.work:echoed",
                    {},
                    timeout_s=WAIT_S,
                    memory_bytes=MEBIBYTE,
                    cancellation=cancellation,
                )
            sandbox.close()
            assert isinstance(occupied.exception(WAIT_S), SandboxCrashed)
    finally:
        sandbox.close()


def test_many_threads_share_few_children(sandbox: Sandbox) -> None:
    def one(number: int) -> bool:
        if number % 10 == 3:
            with pytest.raises(SandboxCrashed):
                run(sandbox, "leaving", status=1)
            return True
        data = bytes([number]) * (number * 1_000)
        result = sandbox.run(
            "tests.unit.sandbox.work:echoed",
            {"n": number},
            data=data,
            timeout_s=WAIT_S,
            memory_bytes=MEBIBYTE,
        )
        return bool(result == ({"n": number}, data or None))

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(one, range(1, 61)))
    assert len(sandbox.process_ids()) <= 2


def test_a_child_sees_none_of_our_keys(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("SOME_OTHER_TOKEN", "sk-secret")
    environment = run(sandbox, "environment")
    assert not any("sk-secret" in value for value in environment.values())
    assert "HOME" not in environment


def test_a_child_has_no_descriptor_of_ours(sandbox: Sandbox) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(reader, True)
    os.set_inheritable(writer, True)
    try:
        ours = {os.readlink(f"/proc/self/fd/{fd}") for fd in (reader, writer)}
        found = run(sandbox, "descriptors")
    finally:
        os.close(reader)
        os.close(writer)
    assert not ours & set(found.values())
    assert [found[fd] for fd in ("0", "1", "2")] == ["/dev/null"] * 3
    # Its socket, the pipe that tells of our end, and the shared area.
    assert len(found) <= 7


def test_a_child_works_in_a_folder_that_stays(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    try:
        assert run(sandbox, "folder") == "/"
    finally:
        os.chdir(ROOT)


@pytest.mark.slow
def test_children_that_nobody_uses_end_and_so_does_their_keeper() -> None:
    sandbox = Sandbox(n_children=2, idle_s=0.1)
    process = run(sandbox, "process_id")
    assert eventually(lambda: not sandbox.process_ids() and not is_running(process))
    assert eventually(lambda: not any(thread.name == "sandbox keeper" for thread in threading.enumerate()))
    assert run(sandbox, "process_id") != process
    sandbox.close()


def test_resting_leaves_no_child_descriptor_or_thread(sandbox: Sandbox) -> None:
    before = set(os.listdir("/proc/self/fd"))
    process = run(sandbox, "process_id")
    sandbox.rest()
    assert not is_running(process)
    assert len(os.listdir("/proc/self/fd")) <= len(before)
    assert eventually(lambda: not any(thread.name == "sandbox keeper" for thread in threading.enumerate()))


def test_a_closed_sandbox_starts_nothing() -> None:
    sandbox = Sandbox()
    sandbox.close()
    with pytest.raises(SandboxUnavailable):
        run(sandbox, "echoed")


PARENT = """
import sys, threading, time
sys.path.insert(0, {root!r})
if len(sys.argv) > 1:
    from tests import foreign_platform
    foreign_platform.pretend(sys.argv[1])
from sandbox.pool import Sandbox
sandbox = Sandbox(n_children=2)
def run(name, **arguments):
    return sandbox.run("tests.unit.sandbox.work:" + name, arguments, timeout_s=600, memory_bytes=1 << 26).value
idle = run("process_id")
threading.Thread(target=run, args=("busy",), daemon=True).start()
while len(sandbox.process_ids()) < 1: time.sleep(0.01)
time.sleep(0.3)
other = run("process_id")
print(idle, other, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("number", "arguments"), [(signal.SIGKILL, []), (signal.SIGTERM, []), (signal.SIGKILL, ["darwin"])]
)
def test_no_child_outlives_its_parent(number: int, arguments: list[str]) -> None:
    """One of them is idle, and the other in the middle of a computation that never asks for its parent."""
    command = [sys.executable, "-c", PARENT.format(root=str(ROOT)), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        children = {int(word) for word in parent.stdout.readline().split()}
        assert len(children) == 2
        assert all(map(is_running, children))
        parent.send_signal(number)
        parent.wait(WAIT_S)
    assert eventually(lambda: not any(map(is_running, children)))


@pytest.mark.skipif(not hasattr(fcntl, "F_SETSIG"), reason="no other signal can be asked for")
def test_stopped_children_do_not_outlive_their_parent_either() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT.format(root=str(ROOT))], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        children = {int(word) for word in parent.stdout.readline().split()}
        for child in children:
            os.kill(child, signal.SIGSTOP)
        parent.kill()
        parent.wait(WAIT_S)
    assert eventually(lambda: not any(map(is_running, children)))
