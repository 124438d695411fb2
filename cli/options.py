"""The command-line options; all other settings are environment variables, see `settings/`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from settings import LOG_LEVELS, SERVER_NAME, SERVER_VERSION, TRANSPORTS, program, rows
from settings.tool_selection import SLIM

if TYPE_CHECKING:
    import argparse

OPTIONS = {
    "--host": ("VLLM_HTTP_HOST", "ADDRESS", "address to listen on for HTTP"),
    "--port": ("VLLM_HTTP_PORT", "N", "port to listen on for HTTP"),
    "--vllm-url": ("OMNI_URL", "URL", "address of the vLLM-Omni server for images"),
    "--output-dir": ("OMNI_OUTPUT_DIR", "FOLDER", "folder for generated files"),
    "--max-concurrent": ("OMNI_MAX_CONCURRENT", "N", "images generated at once, or auto"),
    "--timeout": ("OMNI_TIMEOUT", "SECONDS", "longest generation of one image"),
}
"""Options that set a variable: the variable, the placeholder of the value, and the help text."""

LOOK, LOAD = "look", "load"
"""Depth of `--check`: LOAD also loads the model."""

COMMANDS = {
    "call": "run one tool and print its result",
    "tools": "list the tools",
    "chat": "hold a conversation in the terminal",
    "compile": "make the compiled code that VLLM_COMPILE=auto loads on a CPU",
}
"""The first word of a command for a terminal, and what it does; see `cli.terminal`."""


class CommandLine(msgspec.Struct, frozen=True):
    """The parsed command line.

    Arguments:
        overrides: variables that override the environment.
        check: the depth of a check, if any.
        command: the words of a command for a terminal, if any; the first is a key of `COMMANDS`.
    """

    overrides: dict[str, str] = {}
    check: str | None = None
    command: tuple[str, ...] = ()


def parse(arguments: Sequence[str]) -> CommandLine:
    """Reads the options; prints and exits for `--help`, `--version`, unknown options and clients' entries."""
    if not arguments:
        return CommandLine()
    import argparse  # 10 ms that only a start with options pays

    from operating_system.console import use_utf8

    use_utf8()
    parser = argparse.ArgumentParser(
        prog=program(),
        description="An MCP server over a vLLM engine, on stdio or over HTTP. Its settings are environment variables:",
        epilog="\n".join(f"{row.variable}\n    {row.meaning} Default: {row.default}." for row in rows()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{SERVER_NAME} {SERVER_VERSION}")
    parser.add_argument("--log-level", type=str.upper, choices=LOG_LEVELS, help="lowest level of the log")
    parser.add_argument(
        "--transport",
        type=str.lower,
        choices=TRANSPORTS,
        dest="VLLM_TRANSPORT",
        help="transport; sse: Streamable HTTP and the older HTTP+SSE (VLLM_TRANSPORT)",
    )
    for option, (variable, metavar, help_text) in OPTIONS.items():
        parser.add_argument(option, metavar=metavar, dest=variable, help=f"{help_text} ({variable})")
    parser.add_argument(
        "--slim",
        action="store_const",
        const=SLIM,
        dest="VLLM_TOOLSETS",
        help="offer only four tools, which take little of the model's context (VLLM_TOOLSETS=slim)",
    )
    _add_client_options(parser)
    parser.add_argument(
        "--check",
        nargs="?",
        const=LOOK,
        choices=(LOOK, LOAD),
        help="report what works and how to fix the rest, and exit; --check=load also runs the model. "
        "Exit status 1 if something does not work",
    )
    _add_engine_option(parser)
    _add_command(parser)
    options = parser.parse_args(arguments)
    if options.install_engine is not None:
        from cli.install_engine import install_engine

        sys.exit(install_engine(options.install_engine))
    _follow_client_options(parser, options)
    variables = ("VLLM_TRANSPORT", "VLLM_TOOLSETS", *(row[0] for row in OPTIONS.values()))
    given = {"VLLM_LOG_LEVEL": options.log_level, **{name: getattr(options, name) for name in variables}}
    overrides = {variable: value for variable, value in given.items() if value is not None}
    if options.command:
        overrides = _of_command(parser, options.command[0]) | overrides | {"VLLM_TRANSPORT": "stdio"}
    return CommandLine(overrides, options.check, tuple(options.command))


def _add_client_options(parser: argparse.ArgumentParser) -> None:
    """The options that print or install the entry for a client."""
    from cli.clients.table import CLIENTS

    clients = parser.add_argument_group("entries for MCP clients", f"CLIENT is {', '.join(CLIENTS)}.")
    which = clients.add_mutually_exclusive_group()
    which.add_argument(
        "--print-config", metavar="CLIENT", choices=CLIENTS, help="print the entry that starts this server, and exit"
    )
    which.add_argument(
        "--install",
        metavar="CLIENT",
        choices=CLIENTS,
        help="add the entry to the client: show the difference, ask, and run the client's own command or change its "
        "JSON file, of which a copy is kept. Exit status 1 if it was not added",
    )
    clients.add_argument(
        "--env", metavar="KEY=VALUE", action="append", default=[], help="a variable of the entry; may be repeated"
    )
    clients.add_argument("--uvx", action="store_true", help="the entry starts the published package with uvx")
    clients.add_argument("--yes", action="store_true", help="install without asking")


def _follow_client_options(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Prints or installs the entry and exits, if an option asks for it."""
    if options.print_config is None and options.install is None:
        if options.env or options.uvx or options.yes:
            parser.error("--env, --uvx and --yes need --print-config or --install")
        return
    from cli.clients import commands

    try:
        variables = commands.variables(options.env)
    except ValueError as error:
        parser.error(str(error))
    if options.print_config is not None:
        sys.exit(commands.print_config(options.print_config, variables, os.environ, by_uvx=options.uvx))
    sys.exit(commands.install(options.install, variables, os.environ, by_uvx=options.uvx, assume_yes=options.yes))


def _add_engine_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--install-engine",
        nargs="?",
        const="auto",
        choices=("auto", "cpu", "cuda"),
        help="install vLLM beside an installed server, for the GPU if there is one, and exit; the server then runs "
        "with it (Linux only)",
    )


def _add_command(parser: argparse.ArgumentParser) -> None:
    what = "; ".join(f"{name}: {meaning}" for name, meaning in COMMANDS.items())
    parser.add_argument("command", nargs="...", metavar="COMMAND ...", help=f"{what}. COMMAND --help says more")


def _of_command(parser: argparse.ArgumentParser, name: str) -> dict[str, str]:
    """The settings that a command has by default: its log has warnings only, because the user sees it."""
    if name not in COMMANDS:
        parser.error(f"unknown command {name!r}; there are {', '.join(COMMANDS)}")
    return {} if os.environ.get("VLLM_LOG_LEVEL", "").strip() else {"VLLM_LOG_LEVEL": "WARNING"}
