"""The rules of tests/conftest.py: which skips pass in CI, and that no test ends the run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.allowed_skips import ALLOWED_SKIPS, is_allowed

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MODULE = """
import os, signal
import pytest

def test_allowed():
    pytest.skip("this machine has no systemd")

def test_forbidden():
    pytest.skip("no package index can be reached: timed out")

@pytest.mark.skipif(True, reason="too slow")
def test_forbidden_by_a_mark():
    pass

def test_exit():
    os._exit(0)

def test_kill():
    os.kill(os.getpid(), signal.SIGKILL)

def test_exit_of_a_child():
    child = os.fork()
    if not child:
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7

def test_handler():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

def test_timer():
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 60)

def test_after_all_of_them():
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
"""
SKIPPED_MODULE = 'import pytest\npytest.importorskip("no_such_module")\n'


def run(folder: Path, ci: str) -> str:
    """What pytest reports of two modules under the rules of tests/conftest.py."""
    (folder / "conftest.py").write_text((ROOT / "tests" / "conftest.py").read_text())
    (folder / "test_tests.py").write_text(MODULE)
    (folder / "test_skipped.py").write_text(SKIPPED_MODULE)
    command = [sys.executable, "-m", "pytest", "-rA", "--rootdir", str(folder), "--continue-on-collection-errors"]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", str(folder)],
        env={"PYTHONPATH": str(ROOT), "CI": ci},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.stdout


def test_skip_that_the_list_does_not_have_fails_in_ci(tmp_path: Path) -> None:
    report = run(tmp_path, ci="true")
    assert "does not have: no package index can be reached: timed out" in report
    assert "does not have: too slow" in report
    assert "does not have: could not import 'no_such_module'" in report
    assert "does not have: this machine has no systemd" not in report
    for test in ("forbidden", "exit", "kill"):
        assert f"FAILED test_tests.py::test_{test} " in report
    for place in (
        "test_tests.py::test_forbidden_by_a_mark",
        "test_tests.py::test_handler",
        "test_tests.py::test_timer",
    ):
        assert f"ERROR {place} " in report
    assert "ERROR test_skipped.py" in report
    assert "3 failed, 4 passed, 1 skipped, 4 errors" in report


def test_every_skip_passes_elsewhere(tmp_path: Path) -> None:
    assert "2 failed, 4 passed, 4 skipped, 2 errors" in run(tmp_path, ci="")


@pytest.mark.parametrize("reason", ALLOWED_SKIPS)
def test_reason_of_the_list_is_one_that_a_test_gives(reason: str) -> None:
    beginning = reason.split("…")[0].removesuffix("/proc/").removesuffix("/sys/")
    tests = (path for path in (ROOT / "tests").rglob("*.py") if path.name not in ("allowed_skips.py", "test_skips.py"))
    assert any(beginning in path.read_text() for path in tests)


@pytest.mark.parametrize("reason", ["this machine has no /proc/self/maps", "this machine has no systemd"])
def test_reason_is_allowed(reason: str) -> None:
    assert is_allowed(reason)


@pytest.mark.parametrize(
    "reason", ["", "this machine has no nginx", "vLLM is not installed", "this machine has no systemd, or so"]
)
def test_reason_is_not_allowed(reason: str) -> None:
    assert not is_allowed(reason)
