"""That nothing outlives the server, however it ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.local import reaper
from engine.local.child_processes import ChildProcesses

ROOT = Path(__file__).parents[3]
# One child by exec, which has the mark in its environment, and one by fork, which has it as a descriptor.
PARENT = """
import os, subprocess, sys, time
sys.path.insert(0, {root!r})
from engine.local.child_processes import ChildProcesses
children = ChildProcesses()
children.watch()
by_exec = subprocess.Popen(["sleep", "600"], start_new_session=True)
by_fork = os.fork()
if not by_fork:
    time.sleep(600)
print(children._mark, os.environ["VLLM_RPC_BASE_PATH"], children._guard.pid, by_exec.pid, by_fork, flush=True)
time.sleep(600)
"""

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="the guard needs Linux")


def wait_until_gone(pids: list[int], within_s: float = 2.0) -> list[int]:
    """Those processes that still run when the time is up."""
    give_up = time.monotonic() + within_s
    while (left := [pid for pid in pids if is_running(pid)]) and time.monotonic() < give_up:
        time.sleep(0.02)
    return left


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_children_and_guard_end_with_the_server(ending: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT.format(root=str(ROOT))], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        mark, folder, *pids = parent.stdout.readline().split()
        Path(folder, "socket").touch()
        children = [int(pid) for pid in pids]
        assert all(map(is_running, children))
        parent.send_signal(ending)
    assert wait_until_gone(children) == []
    assert reaper.marked_processes(mark) == []
    assert not Path(folder).exists()


def test_sockets_have_a_folder_of_their_own_as_long_as_the_guard_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VLLM_RPC_BASE_PATH", raising=False)
    children = ChildProcesses()
    children.watch()
    folder = Path(os.environ["VLLM_RPC_BASE_PATH"])
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.rmdir()
    children.watch()
    (folder / "socket").touch()
    children.end_guard()
    assert not folder.exists()
    assert "VLLM_RPC_BASE_PATH" not in os.environ


def test_folder_of_sockets_is_the_users_where_he_names_one_or_where_paths_would_be_too_long(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for named, temporary in (("/given", "/tmp"), ("", str(tmp_path / ("x" * 70)))):
        Path(temporary).mkdir(exist_ok=True)
        monkeypatch.setenv("VLLM_RPC_BASE_PATH", named)
        monkeypatch.setattr("tempfile.tempdir", temporary)
        children = ChildProcesses()
        children.watch()
        assert os.environ["VLLM_RPC_BASE_PATH"] == named
        children.end_guard()
        assert os.environ["VLLM_RPC_BASE_PATH"] == named
    assert list((tmp_path / ("x" * 70)).iterdir()) == []


def test_kill_ends_the_children_and_spares_the_server() -> None:
    children = ChildProcesses()
    children.watch()
    assert children.ids() == []
    with subprocess.Popen(["sleep", "600"]) as child:
        assert children.ids() == [child.pid]
        children.kill()
    assert child.returncode == -signal.SIGKILL
    children.end_guard()
    assert children.ids() == []


def test_unmarked_processes_are_left_alone() -> None:
    with subprocess.Popen(["sleep", "600"], env={}) as bystander:
        children = ChildProcesses()
        children.watch()
        children.kill()
        children.end_guard()
        assert bystander.poll() is None
        bystander.kill()


HELD = """
import ctypes, os, sys
sys.path.insert(0, {root!r})
from engine.local.child_processes import ChildProcesses
ending_fd, write_fd = os.pipe()
children = ChildProcesses(ending_fd)
children.watch()
print(children._guard.pid, flush=True)
sys.stdin.read(1)
os.write(write_fd, b"x" if {is_to_end} else b"")
ctypes.PyDLL(None).sleep(3)
print("alive", flush=True)
os.read(ending_fd, 1) if {is_to_end} else None
"""
"""A server that is told to end, or is not, while a library holds Python's lock for 3 s."""


@pytest.mark.parametrize(("is_to_end", "status"), [(True, -signal.SIGKILL), (False, 0)])
@pytest.mark.slow
def test_guard_ends_a_server_whose_lock_is_held_when_it_is_to_end(is_to_end: bool, status: int) -> None:
    program = HELD.format(root=str(ROOT), is_to_end=is_to_end)
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        guard_pid = int(server.stdout.readline())
        begin_s = time.monotonic()
        server.stdin.write("x")
        server.stdin.close()
        assert server.wait(30) == status
        if is_to_end:
            assert time.monotonic() - begin_s > reaper.KILL_S - 0.1
        assert server.stdout.read() == ("" if is_to_end else "alive\n")
    assert wait_until_gone([guard_pid]) == []
