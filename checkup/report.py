"""`vllm_server.py --check`: every check in its order, told row by row, and an exit status.

One function a thing that is checked, in the modules beside this one: it gets the services and returns its rows, none
where there is nothing to tell. A new one is a line in `checks`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from checkup import folders, machine, model, servers
from checkup.findings import Finding, State, problem, row, summary
from checkup.providers import providers
from checkup.transport import transport
from command_line import LOAD
from handlers.errors import explain
from handlers.services import Services
from mcp_protocol import log
from mcp_protocol.stdio import ReaderGone

if TYPE_CHECKING:
    from mcp_protocol.stdio import Wire
    from settings import Settings

Check = Callable[[Services], list[Finding]]
Tell = Callable[[str], None]


def checks(tell: Tell | None) -> tuple[tuple[str, Check], ...]:
    """Every check with its name, in the order of the rows.

    Arguments: who hears of the phases of a load; `None` where the model is not to be loaded.
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
        ("answer", model.no_answer if tell is None else partial(model.answer, tell=tell)),
        ("profiles", servers.profiles),
        ("images", servers.images),
        ("video", servers.video),
        ("providers", providers),
        ("output folder", folders.output_folder),
        ("sessions", folders.sessions),
        ("media folders", folders.media_folders),
        ("transport", transport),
        ("log", folders.log_file),
    )


def findings(services: Services, tell: Tell | None) -> Iterator[Finding]:
    """All rows, each as soon as it is known; a check that breaks is a problem of its own."""
    for name, check in checks(tell):
        try:
            yield from check(services)
        except ImportError:
            yield problem(name, "This could not be checked: a package is missing, see the row packages.")
        except Exception as error:
            yield problem(name, f"This could not be checked. {explain(error)}")


def report(wire: Wire, settings: Settings, depth: str) -> NoReturn:
    """Writes the table and leaves the process: with status 0, or 1 where there is a problem.

    Arguments: `depth`, `LOOK` or `LOAD`.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: os._exit(128 + number))
    load = depth == LOAD
    log_path = (settings.server.log_file or _new_log()) if load else ""
    tell = partial(_tell, os.dup(2)) if load else None
    log.configure(settings.server.log_level, log_path)
    log.configure_logging()
    if tell is not None:
        tell(f"its log goes to {log_path}")
    services, width = Services(settings), _terminal_width(wire.out_fd)
    found: list[Finding] = []
    with contextlib.suppress(ReaderGone):
        for finding in findings(services, tell):
            found.append(finding)
            _write(wire, row(finding, width))
        _write(wire, f"\n{summary(found, loaded=load)}")
        if load and any(finding.state is State.PROBLEM for finding in found):
            _write(wire, f"What was said while the model loaded is in {log_path}.")
    with contextlib.suppress(Exception):
        services.close()
    log.flush(0.2)
    status = int(any(finding.state is State.PROBLEM for finding in found))
    if load and not settings.server.log_file and not status:
        os.unlink(log_path)
    os._exit(status)


def _new_log() -> str:
    """A file for what vLLM says in a load: on the terminal, it would drown the table."""
    fd, path = tempfile.mkstemp(prefix="vllm-check-", suffix=".log")
    os.close(fd)
    return path


def _tell(fd: int, phase: str) -> None:
    with contextlib.suppress(OSError):
        os.write(fd, f"loading the model: {log.escaped(phase)}\n".encode("utf-8", "backslashreplace"))


def _write(wire: Wire, text: str) -> None:
    lines = (log.escaped(line) for line in text.split("\n"))
    wire.write(("\n".join(lines) + "\n").encode("utf-8", "backslashreplace"))


def _terminal_width(fd: int) -> int | None:
    """How wide the terminal is; `None` where the table goes elsewhere, and each row takes one line."""
    try:
        return os.get_terminal_size(fd).columns or None
    except OSError:
        return None
