from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mcp_protocol.log import escaped

ROOT = Path(__file__).parents[3]
TIMEOUT_S = 120


def program(source: str, *arguments: str) -> list[str]:
    """A command that runs a program with the log at hand; the log belongs to a process, so each test has its own."""
    return [sys.executable, "-c", f"import os, sys\nfrom mcp_protocol import log\n{source}", *arguments]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é漢", "plain é漢"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("\u202etfel\u2028", "\\u202etfel\\u2028"),
        ("\ud800", "\\ud800"),
    ],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_process_goes_on_when_nobody_reads_its_stderr() -> None:
    source = """
log.configure("INFO", "")
for _ in range(3000):
    log.log("INFO", "x" * 1000)
for _ in range(3000):
    os.write(2, b"y" * 999 + b"\\n")
log.flush(0.1)
os.write(int(sys.argv[1]), b"done")
os._exit(0)
"""
    read_fd, write_fd = os.pipe()
    process = subprocess.Popen(
        program(source, str(write_fd)), cwd=ROOT, stderr=subprocess.PIPE, pass_fds=[write_fd], bufsize=0
    )
    os.close(write_fd)
    assert os.read(read_fd, 10) == b"done"
    os.close(read_fd)
    assert process.wait(TIMEOUT_S) == 0
    assert process.stderr is not None
    process.stderr.close()


def run(source: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a program and returns what it wrote."""
    return subprocess.run(
        program(source, *arguments), cwd=ROOT, capture_output=True, timeout=TIMEOUT_S, check=False, text=True
    )


def test_everything_reaches_a_host_that_reads_in_order() -> None:
    done = run("""
log.configure("INFO", "")
for number in range(2000):
    log.log("INFO", f"line {number}")
log.flush(60)
""")
    assert [line.split()[-1] for line in done.stderr.splitlines()] == [str(number) for number in range(2000)]


def test_stdout_follows_stderr() -> None:
    done = run('os.dup2(2, 1)\nlog.configure("INFO", "")\nos.write(1, b"to stdout\\n")\nlog.flush(60)')
    assert (done.stdout, done.stderr) == ("", "to stdout\n")


@pytest.mark.parametrize(("level", "seen"), [("DEBUG", "DIWE"), ("INFO", "IWE"), ("WARNING", "WE"), ("ERROR", "E")])
def test_level_bounds_the_log(level: str, seen: str) -> None:
    source = f"""
log.configure({level!r}, "")
for name in ("DEBUG", "INFO", "WARNING", "ERROR"):
    log.log(name, "x")
log.flush(60)
"""
    assert "".join(line.split()[1][0] for line in run(source).stderr.splitlines()) == seen


def test_line_cannot_be_forged() -> None:
    done = run('log.configure("INFO", "")\nlog.log("INFO", "x\\n12:00:00 ERROR forged")\nlog.flush(60)')
    assert done.stderr.count("\n") == 1


def test_log_file_gets_everything_and_is_private(tmp_path: Path) -> None:
    log_file = tmp_path / "log"
    source = """
assert log.configure("INFO", sys.argv[1]) is None
log.log("INFO", "é")
print("p", flush=True)
log.flush(60)
"""
    done = run(source, str(log_file))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = log_file.read_text("utf-8")
    assert "INFO é\n" in text
    assert text.endswith("p\n")
    assert log_file.stat().st_mode & 0o777 == 0o600


def test_file_on_a_full_disk_fails_nobody_and_what_was_dropped_is_counted(tmp_path: Path) -> None:
    source = """
import resource
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, unlimited[1]))
log.configure("INFO", sys.argv[1])
for _ in range(20):
    print("x" * 49, flush=True)
log.flush(60)
resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
print("again", flush=True)
log.flush(60)
"""
    done = run(source, str(tmp_path / "log"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = (tmp_path / "log").read_text()
    assert text.startswith("x" * 49)
    assert "bytes of log dropped" in text
    assert text.endswith("again\n")


def test_log_file_grows(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("before\n")
    run('log.configure("INFO", sys.argv[1])\nlog.log("INFO", "after")\nlog.flush(60)', str(tmp_path / "log"))
    first, second = (tmp_path / "log").read_text().splitlines()
    assert (first, second.split()[-1]) == ("before", "after")


def test_log_file_that_cannot_be_written_is_a_problem_and_stderr_stays() -> None:
    done = run('print(log.configure("INFO", "/no/such/log"), file=sys.stderr)\nlog.log("INFO", "x")\nlog.flush(60)')
    assert "VLLM_LOG_FILE names a file that cannot be written: No such file or directory." in done.stderr
    assert done.stderr.endswith("INFO x\n")


def test_the_log_begins_with_what_is_wrong_with_the_settings() -> None:
    source = 'problems = log.start("INFO", "/no/such/log", ["a problem"], ["a warning"])\nlog.log("INFO", problems[-1])'
    done = run(f"{source}\nlog.flush(60)")
    first, own, warning, last = (line.partition(" ")[2] for line in done.stderr.splitlines())
    assert (first, warning) == ("ERROR a problem", "WARNING a warning")
    assert own.startswith("ERROR The setting VLLM_LOG_FILE names a file that cannot be written")
    assert own.partition(" ")[2] == last.partition(" ")[2]


def test_pythons_logging_writes_the_same_lines() -> None:
    done = run("""
import logging
log.configure("WARNING", "")
log.configure_logging()
logging.getLogger("engine").warning("two\\nlines")
logging.getLogger("engine").info("not shown")
log.flush(60)
""")
    (line,) = done.stderr.splitlines()
    assert line.endswith("WARNING engine: two\\nlines")


def test_traceback_cannot_forge_a_line() -> None:
    done = run("""
import logging
log.configure("WARNING", "")
log.configure_logging()
try:
    raise ValueError("bad\\n12:00:00 ERROR forged\\x1b[31m")
except ValueError:
    logging.getLogger("engine").exception("it failed")
log.flush(60)
""")
    first, *traceback = done.stderr.splitlines()
    assert first.endswith("ERROR engine: it failed")
    assert all(line.startswith("  ") for line in traceback)
    assert traceback[-1] == "  12:00:00 ERROR forged\\x1b[31m"
