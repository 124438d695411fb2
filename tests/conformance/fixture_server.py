"""A server with what the conformance suite wants to find, over the real protocol and the real HTTP transport.

    python -m tests.conformance.fixture_server

It prints the address to connect to, and ends with a signal.
"""

from __future__ import annotations

from mcp_protocol.calls.call import Hooks
from mcp_protocol.http.service import HttpService
from mcp_protocol.main_loop import MainLoop
from mcp_protocol.server import Server
from mcp_protocol.server_info import ServerInfo
from settings.server import HttpSettings, ServerSettings
from tests.conformance.fixture_library import resource_registry
from tests.conformance.fixture_tools import toolbox

INFO = ServerInfo("conformance-fixtures", "Conformance fixtures", "1.0.0", "For the conformance suite.", "Test me.")
TASK_TTL_S = 60.0


def main() -> None:
    """Serves until a signal comes."""
    loop = MainLoop()
    hooks = Hooks(loop.wake, loop.item_ended)
    server = Server(INFO, ServerSettings(), toolbox, resource_registry, hooks=hooks, task_ttl_s=TASK_TTL_S)
    service = HttpService(server, HttpSettings(port=0))
    service.start()
    print(service.url, flush=True)
    loop.run(server, service.stop)


if __name__ == "__main__":
    main()
