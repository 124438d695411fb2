"""An MCP server for a vLLM engine in this process, on stdin and stdout or over HTTP.

main: redirects stdin and stdout, reads the settings, builds the server, runs the main loop
  ├─ mcp_protocol.main_loop   reads stdin, handles signals and deadlines, ends the process
  ├─ mcp_protocol.server      dispatches messages; tool calls go through a queue
  ├─ mcp_protocol.http.front  the same server over HTTP, with --transport http or sse
  └─ handlers                 the tables of tools, resources and prompts, loaded with the first request for them
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.resources.registry import ResourceRegistry
    from mcp_protocol.stdio import StdioTransport
    from mcp_protocol.tools.toolbox import Toolbox
    from settings import Settings

ROOT = os.path.dirname(os.path.realpath(__file__))


def main() -> None:
    """Serves MCP until stdin ends, stdout is closed or a signal comes; over HTTP until a signal comes."""
    for number in (signal.SIGTERM, signal.SIGINT):  # until the main loop installs its handlers
        signal.signal(number, lambda *_: os._exit(0))
    sys.path.insert(0, ROOT)  # Python omits this folder with -P, -I or PYTHONSAFEPATH
    from cli.interpreter import require_msgspec, use_engine

    use_engine(ROOT, os.environ, sys.argv[1:])
    require_msgspec(ROOT)
    import settings
    from cli.options import parse
    from mcp_protocol import stdio

    options = parse(sys.argv[1:])
    transport, configured = stdio.redirect_standard_streams(), settings.initialize(os.environ, options.overrides)
    if options.check is not None:
        from cli.check.report import report

        report(transport, configured, options.check)
    if options.command:
        from cli.terminal.commands import run

        run(transport, configured, options.command, _tools)
    serve(transport, configured)


def serve(transport: StdioTransport, settings: Settings) -> NoReturn:
    """Builds the server and runs it until the process ends."""
    from handlers.services import Services
    from mcp_protocol import log
    from mcp_protocol.calls.call import Hooks
    from mcp_protocol.calls.task import IdleTask, Task
    from mcp_protocol.main_loop import MainLoop
    from mcp_protocol.server import Server
    from mcp_protocol.server_info import ServerInfo
    from settings import SERVER_DESCRIPTION, SERVER_NAME, SERVER_TITLE, SERVER_VERSION
    from settings.icons import ICONS

    front = None
    if settings.http.transport != "stdio":
        from mcp_protocol.http.front import HttpFront

        front = HttpFront(settings.http, settings.problems)
    problems = log.start(settings.server.log_level, settings.server.log_file, settings.problems, settings.warnings)
    services = Services(settings, (loop := MainLoop(transport if front is None else None)).ending_fd)
    server = Server(
        ServerInfo(SERVER_NAME, SERVER_TITLE, SERVER_VERSION, SERVER_DESCRIPTION, settings.instructions, ICONS),
        settings.server,
        lambda: _tools(services),
        lambda: _resources(services),
        problems=problems,
        startup_task=Task("preload", services.preload) if settings.engine.preload and not problems else None,
        idle_task=IdleTask(Task("idle timeout", services.give_back_memory), services.idle_due_s),
        hooks=Hooks(loop.wake, loop.item_ended) if front is None else Hooks(loop.wake, loop.item_ended, front.observe),
        budgets=services.message_budgets,
        task_ttl_s=settings.omni.job_ttl_s,
    )
    loop.run(server, services.close if front is None else front.start(server, services))


def _tools(services: Services) -> Toolbox:
    from handlers.offered_tools import OfferedTools

    return OfferedTools(services)


def _resources(services: Services) -> ResourceRegistry:
    from handlers.resources.resources import resource_registry

    return resource_registry(services)


if __name__ == "__main__":
    main()
