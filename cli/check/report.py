"""`vllm_server.py --check`: runs the checks in order, writes their rows, and sets the exit status.

Each check is a function in the other modules of this package: it gets the services and returns its rows, if any. To add
a check, add a line to `checks`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from cli.check import folders, machine, model, servers
from cli.check.findings import Finding, State, problem, row, summary
from cli.check.providers import providers
from cli.check.transport import transport
from cli.options import LOAD
from handlers.errors import error_text
from handlers.services import Services
from mcp_protocol import log
from mcp_protocol.stdio import ReaderGone

if TYPE_CHECKING:
    from mcp_protocol.stdio import StdioTransport
    from settings import Settings

Check = Callable[[Services], list[Finding]]
OnPhase = Callable[[str], None]


def checks(on_phase: OnPhase | None) -> tuple[tuple[str, Check], ...]:
    """Every check with its name, in the order of the rows.

    Arguments: `on_phase` gets the phases of the load; `None` if the model is not to be loaded.
    """
    return (
        ("server", machine.server),
        ("settings", machine.settings),
        ("python", machine.python),
        ("packages", machine.packages),
        ("vllm", machine.vllm),
        ("gpu", machine.graphics),
        ("model", model.model),
        ("adapters", model.lora),
        ("model server", model.model_server),
        ("answer", model.no_answer if on_phase is None else partial(model.answer, on_phase=on_phase)),
        ("profiles", servers.profiles),
        ("images", servers.images),
        ("video", servers.video),
        ("speech", servers.speech),
        ("providers", providers),
        ("output folder", folders.output_folder),
        ("sessions", folders.sessions),
        ("media folders", folders.media_folders),
        ("transport", transport),
        ("log", folders.log_file),
    )


def findings(services: Services, on_phase: OnPhase | None) -> Iterator[Finding]:
    """All rows, each as soon as its check ends; a check that raises becomes a problem."""
    for name, check in checks(on_phase):
        try:
            yield from check(services)
        except ImportError:
            yield problem(name, "Not checked: a package is missing, see the row packages.")
        except Exception as error:
            yield problem(name, f"Not checked. {error_text(error)}")


def report(wire: StdioTransport, settings: Settings, depth: str) -> NoReturn:
    """Writes the table and leaves the process: with status 0, or 1 where there is a problem.

    Arguments: `depth`, `LOOK` or `LOAD`.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: os._exit(128 + number))
    load = depth == LOAD
    log_path = (settings.server.log_file or _new_log()) if load else ""
    on_phase = partial(_write_phase, os.dup(2)) if load else None
    log.configure(settings.server.log_level, log_path)
    log.configure_logging()
    if on_phase is not None:
        on_phase(f"its log is written to {log_path}")
    services, width = Services(settings), _terminal_width(wire.out_fd)
    found: list[Finding] = []
    with contextlib.suppress(ReaderGone):
        for finding in findings(services, on_phase):
            found.append(finding)
            _write(wire, row(finding, width))
        _write(wire, f"\n{summary(found, loaded=load)}")
        if load and any(finding.state is State.PROBLEM for finding in found):
            _write(wire, f"The log of the load is in {log_path}.")
    with contextlib.suppress(Exception):
        services.close()
    log.flush(0.2)
    status = int(any(finding.state is State.PROBLEM for finding in found))
    if load and not settings.server.log_file and not status:
        with contextlib.suppress(OSError):  # Windows removes no open file
            os.unlink(log_path)
    os._exit(status)


def _new_log() -> str:
    """A file for the log of the load, which would hide the table on the terminal."""
    fd, path = tempfile.mkstemp(prefix="vllm-check-", suffix=".log")
    os.close(fd)
    return path


def _write_phase(fd: int, phase: str) -> None:
    with contextlib.suppress(OSError):
        os.write(fd, f"loading the model: {log.escaped(phase)}\n".encode("utf-8", "backslashreplace"))


def _write(wire: StdioTransport, text: str) -> None:
    lines = (log.escaped(line) for line in text.split("\n"))
    wire.write(("\n".join(lines) + "\n").encode("utf-8", "backslashreplace"))


def _terminal_width(fd: int) -> int | None:
    """The columns of the terminal; `None` if the output is no terminal."""
    try:
        return os.get_terminal_size(fd).columns or None
    except OSError:
        return None
