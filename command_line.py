"""The options of the command line; everything else is an environment variable, see `settings/`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import msgspec

from settings import LOG_LEVELS, ROOT, SERVER_NAME, SERVER_VERSION, TRANSPORTS, rows

OPTIONS = {
    "--host": ("VLLM_HTTP_HOST", "ADDRESS", "address to listen on for HTTP"),
    "--port": ("VLLM_HTTP_PORT", "N", "port to listen on for HTTP"),
    "--vllm-url": ("OMNI_URL", "URL", "address of the vLLM-Omni server that makes pictures"),
    "--output-dir": ("OMNI_OUTPUT_DIR", "FOLDER", "folder of what is generated"),
    "--max-concurrent": ("OMNI_MAX_CONCURRENT", "N", "pictures generated at once, or auto"),
    "--timeout": ("OMNI_TIMEOUT", "SECONDS", "how long the vLLM-Omni server may take for one picture"),
}
"""Options that stand for a setting: its variable, what the value is called, and what it means."""


LOOK, LOAD = "look", "load"
"""How thorough a check is: whether it also loads the model."""


class CommandLine(msgspec.Struct, frozen=True):
    """What the command line asks for: settings that win over the environment, and maybe a check in place of serving."""

    overrides: dict[str, str] = {}
    check: str | None = None


def parse(arguments: Sequence[str]) -> CommandLine:
    """Reads the options; prints and exits for `--help`, `--version`, `--print-config` and unknown options."""
    if not arguments:
        return CommandLine()
    import argparse  # 10 ms that only a start with options pays

    from client_configs import TEMPLATES, client_config

    parser = argparse.ArgumentParser(
        prog=os.path.basename(sys.argv[0]),
        description="An MCP server over a vLLM engine, on stdio or over HTTP. Its settings are environment variables:",
        epilog="\n".join(f"{row.variable}\n    {row.meaning} Default: {row.default or 'none'}." for row in rows()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"{SERVER_NAME} {SERVER_VERSION}")
    parser.add_argument("--log-level", type=str.upper, choices=LOG_LEVELS, help="how much goes to the log")
    parser.add_argument(
        "--transport",
        type=str.lower,
        choices=TRANSPORTS,
        dest="VLLM_TRANSPORT",
        help="how clients come; sse: over HTTP, the older HTTP+SSE transport included (VLLM_TRANSPORT)",
    )
    for option, (variable, metavar, help_text) in OPTIONS.items():
        parser.add_argument(option, metavar=metavar, dest=variable, help=f"{help_text} ({variable})")
    parser.add_argument(
        "--print-config",
        metavar="CLIENT",
        choices=TEMPLATES,
        help="print the configuration of a client (%(choices)s) with this folder's paths, and end",
    )
    parser.add_argument(
        "--check",
        nargs="?",
        const=LOOK,
        choices=(LOOK, LOAD),
        help="tell what works and what to do about the rest, and end; --check=load also has the model answer. "
        "Exit status 1 where something does not work",
    )
    options = parser.parse_args(arguments)
    if options.print_config is not None:
        print(client_config(options.print_config, ROOT))
        sys.exit()
    variables = ("VLLM_TRANSPORT", *(row[0] for row in OPTIONS.values()))
    given = {"VLLM_LOG_LEVEL": options.log_level, **{name: getattr(options, name) for name in variables}}
    overrides = {variable: value for variable, value in given.items() if value is not None}
    return CommandLine(overrides, options.check)
