"""The commands by their names, and how each ends: with its exit status, a signal's, or 2 for wrong usage."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.stdio import StdioTransport
    from mcp_protocol.tools.toolbox import Toolbox
    from settings import Settings


def run(
    transport: StdioTransport,
    settings: Settings,
    words: Sequence[str],
    load_tools: Callable[[Services], Toolbox],
) -> NoReturn:
    """Runs a command and ends the process.

    Arguments:
        transport: stdin and stdout.
        settings: all settings.
        words: the name of the command, and the words behind it.
        load_tools: makes the table of tools.
    """
    for number in (signal.SIGTERM, signal.SIGINT):  # until the client installs its handlers: the imports take time
        signal.signal(number, lambda number, _: os._exit(128 + number))
    from msgspec.structs import replace

    from cli.terminal.call import call, tools
    from cli.terminal.chat import chat
    from cli.terminal.client import CallRefused, Client, Interrupted
    from cli.terminal.compile import compile_model, compiling
    from cli.terminal.screen import Screen
    from cli.terminal.user_input import UserInput
    from cli.terminal.words import UsageError
    from mcp_protocol import log
    from mcp_protocol.stdio import ReaderGone
    from settings import program as program_name

    program = program_name()
    name, *rest = words
    command = {"call": call, "tools": tools, "chat": chat, "compile": compile_model}[name]
    screen = Screen(transport, os.dup(2))
    if name == "chat":  # a conversation in a terminal is no session of the clients
        settings = replace(settings, sessions=replace(settings.sessions, session_db=None))
    if name == "compile":
        settings = compiling(settings)
    goes_on = name == "chat" and os.isatty(transport.in_fd)
    client = Client(settings, load_tools, ends_on_interrupt=not goes_on)
    try:
        status = command(program, rest, client, screen, UserInput(transport, client, screen))
    except UsageError as error:
        screen.complain(f"{program} {name}: {error}")
        status = 2
    except CallRefused as error:
        screen.complain(str(error))
        status = 1
    except Interrupted as interrupted:
        screen.end()
        status = interrupted.status
    except ReaderGone:
        screen.complain("The result could not be written: stdout is closed or full.")
        status = 1
    except BaseException:
        screen.end()
        log.log_failure(name)
        status = 1
    client.end(status)
