"""A server with what the conformance suite wants to find, over the real protocol and its real transports."""

from __future__ import annotations

from mcp_protocol import stdio
from mcp_protocol.main_loop import MainLoop
from mcp_protocol.server import Server, ServerInfo
from tests.conformance.fixture_library import catalogues
from tests.conformance.fixture_tools import toolbox

INFO = ServerInfo("conformance-fixtures", "Conformance fixtures", "1.0.0", "For the conformance suite.", "Test me.")
MAX_LINE_BYTES = 1 << 20


def main() -> None:
    """Serves until stdin ends."""
    wire = stdio.guard()
    loop = MainLoop(wire, MAX_LINE_BYTES)
    server = Server(INFO, toolbox, catalogues, max_line_bytes=MAX_LINE_BYTES, wake=loop.wake, on_idle=loop.work_done)
    loop.run(server, lambda: None)


if __name__ == "__main__":
    main()
