"""A server with what the conformance suite wants to find, over the real protocol and the real HTTP transport.

    python -m tests.conformance.fixture_server

It prints the address to connect to, and ends with a signal.
"""

from __future__ import annotations

from mcp_protocol.http.options import HttpOptions
from mcp_protocol.http.service import HttpService
from mcp_protocol.main_loop import MainLoop
from mcp_protocol.server import Server
from mcp_protocol.server_info import ServerInfo
from tests.conformance.fixture_library import catalogues
from tests.conformance.fixture_tools import toolbox

INFO = ServerInfo("conformance-fixtures", "Conformance fixtures", "1.0.0", "For the conformance suite.", "Test me.")


def main() -> None:
    """Serves until a signal comes."""
    loop = MainLoop()
    server = Server(INFO, toolbox, catalogues, wake=loop.wake, on_idle=loop.work_done)
    service = HttpService(server, HttpOptions(port=0), wake=loop.wake)
    service.start()
    print(service.url, flush=True)
    loop.run(server, service.stop)


if __name__ == "__main__":
    main()
