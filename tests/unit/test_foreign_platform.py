"""The stand-ins for other systems hide what these lack, from the server alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.e2e.server_process import ROOT

PROBE = """
import sys
from tests import foreign_platform
foreign_platform.pretend({platform!r})
variables = {{"__file__": {file!r}, "__name__": "probe"}}
try:
    exec({code!r}, variables)
except (AttributeError, ImportError, OSError, TypeError, ValueError, NotImplementedError) as error:
    print(type(error).__name__)
else:
    print("ok")
"""
OURS = str(ROOT / "engine" / "probe.py")


def outcome(platform: str, code: str, file: str = OURS) -> str:
    """What happens to a line of a file on a system."""
    program = PROBE.format(platform=platform, code=code, file=file)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("platform", "code", "expected"),
    [
        ("darwin", "import fcntl; fcntl.F_SETPIPE_SZ", "AttributeError"),
        ("darwin", "from os import memfd_create", "ImportError"),
        ("darwin", "import os; open('/proc/self/status')", "FileNotFoundError"),
        ("darwin", "import select; select.poll()", "ok"),
        ("win32", "import fcntl", "ModuleNotFoundError"),
        ("win32", "import os; os.O_CLOEXEC", "AttributeError"),
        ("win32", "import os; os.unlink('nothing', dir_fd=3)", "NotImplementedError"),
        ("win32", "import os; os.open('/tmp', 0)", "PermissionError"),
        ("win32", "import os, select; select.select([os.pipe()[0]], [], [], 0)", "OSError"),
        ("win32", "import signal; signal.signal(14, print)", "ValueError"),
        ("win32", "import os, signal; signal.set_wakeup_fd(os.pipe()[1])", "ValueError"),
        ("win32", "import subprocess; subprocess.Popen(['true'], start_new_session=True)", "ValueError"),
        ("win32", "import msvcrt, os; msvcrt.setmode(0, os.O_BINARY)", "ok"),
        ("win32", "import sys; assert sys.platform == 'win32'", "ok"),
    ],
)
def test_server_misses_what_the_system_lacks(platform: str, code: str, expected: str) -> None:
    assert outcome(platform, code) == expected


@pytest.mark.slow
@pytest.mark.parametrize("file", ["/usr/lib/python3/other.py", str(ROOT / "tests" / "probe.py")])
def test_other_programs_miss_nothing(file: str) -> None:
    assert outcome("win32", "import fcntl, os; os.O_CLOEXEC; fcntl.F_SETPIPE_SZ", file) == "ok"
