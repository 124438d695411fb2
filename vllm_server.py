"""An MCP server over a vLLM engine in this process, on stdin and stdout or over HTTP.

main ─ reads the settings, guards stdin and stdout, builds the server, runs the loop
  ├─ mcp_protocol.main_loop   bytes in, signals, deadlines, the end of the process
  ├─ mcp_protocol.server      one line in, one line out; tool calls go into a queue
  ├─ http_front               the same server over HTTP, where the settings ask for that
  └─ handlers                 the tables of tools, resources and prompts, loaded with the first request about them
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from mcp_protocol.stdio import Wire
    from settings import Settings

ROOT = os.path.dirname(os.path.realpath(__file__))


def main() -> None:
    """Serves MCP until stdin ends, nobody reads stdout, or a signal comes, which alone ends HTTP; see README.md."""
    for number in (signal.SIGTERM, signal.SIGINT):  # until the loop has its own handlers, a signal just ends the start
        signal.signal(number, lambda *_: os._exit(0))
    sys.path.insert(0, ROOT)  # with -P, -I or PYTHONSAFEPATH, Python leaves the program's folder out
    _require_msgspec()
    from command_line import parse

    options = parse(sys.argv[1:])
    import settings
    from mcp_protocol import stdio

    wire, configured = stdio.guard(), settings.settle(os.environ, options.overrides)
    if options.check is not None:
        from checkup.report import report

        report(wire, configured, options.check)
    serve(wire, configured)


def serve(wire: Wire, settings: Settings) -> NoReturn:
    """Builds the server and runs it to the end of the process."""
    from handlers.services import Services
    from mcp_protocol import log
    from mcp_protocol.main_loop import MainLoop
    from mcp_protocol.server import Server
    from mcp_protocol.server_info import ServerInfo
    from mcp_protocol.work_queue import IdleTask, Task
    from settings import SERVER_DESCRIPTION, SERVER_INSTRUCTIONS, SERVER_NAME, SERVER_TITLE, SERVER_VERSION

    front = None
    if settings.http.transport != "stdio":
        from http_front import HttpFront

        front = HttpFront(settings)
    problems = log.start(settings.server.log_level, settings.server.log_file, settings.problems, settings.warnings)
    loop = MainLoop(wire if front is None else None, settings.server.max_line_bytes)
    services = Services(settings, loop.ending_fd)
    server = Server(
        ServerInfo(SERVER_NAME, SERVER_TITLE, SERVER_VERSION, SERVER_DESCRIPTION, SERVER_INSTRUCTIONS),
        services.toolbox,
        services.catalogues,
        problems=problems,
        call_timeout_s=settings.server.call_timeout_s,
        max_line_bytes=settings.server.max_line_bytes,
        max_result_bytes=settings.server.max_result_bytes,
        max_concurrent=settings.server.max_concurrent,
        max_queue=settings.server.max_queue,
        on_start=Task("preload", services.preload) if settings.engine.preload and not problems else None,
        wake=loop.wake,
        on_idle=loop.work_done,
        idle_task=IdleTask(Task("idle timeout", services.give_back_memory), services.idle_due_s),
        observe=None if front is None else front.observe,
        budgets=services.message_budgets,
    )
    loop.run(server, services.close if front is None else front.start(server, services, loop.wake))


def _require_msgspec() -> None:
    """Starts again with the Python that the scripts set up, when this one lacks the one package the start needs."""
    try:
        import msgspec  # noqa: F401
    except ImportError:
        python = os.path.join(venv := os.path.join(ROOT, ".venv"), "bin", "python")
        if os.path.exists(python) and sys.prefix != venv:
            os.execv(python, [python, *sys.argv])
        sys.exit(f"vllm_server.py: msgspec is not installed for {sys.executable}. Run {ROOT}/scripts/demo once.")


if __name__ == "__main__":
    main()
