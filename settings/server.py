"""How the server serves its clients: stdio, the queue of calls, and HTTP."""

from typing import Annotated

import msgspec

from settings.kinds import (
    FILE,
    NAMES,
    NETWORKS,
    SWITCH,
    TEXT,
    TOKENS,
    WORDS,
    Setting,
    auto_or,
    choice,
    number,
    some_of,
    whole,
)
from settings.tool_selection import TOOLSETS, families_of, instructions, selected

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
TRANSPORTS = ("stdio", "http", "sse")


class ServerSettings(msgspec.Struct, frozen=True):
    """The log, the queue of calls, sizes, and the tools."""

    log_level: Annotated[str, Setting("VLLM_LOG_LEVEL", choice(*LOG_LEVELS), "Lowest level of the log.")] = "INFO"
    log_file: Annotated[
        str, Setting("VLLM_LOG_FILE", FILE, "File that the log is written to, in place of stderr.", "stderr")
    ] = ""
    call_timeout_s: Annotated[
        float, Setting("VLLM_CALL_TIMEOUT", number(0, 86_400), "Longest time of a call in seconds; 0: no limit.")
    ] = 0.0
    max_concurrent: Annotated[
        int,
        Setting(
            "VLLM_MAX_CONCURRENT",
            whole(1, 256),
            "Calls that run at once, in one batch of the engine; above 1, replies are sent as soon as they are ready, "
            "not in the order of the calls.",
        ),
    ] = 1
    max_queue: Annotated[
        int, Setting("VLLM_MAX_QUEUE", whole(1, 1_000_000), "Calls that may wait; further calls get the error 'busy'.")
    ] = 2_000
    max_held_bytes: Annotated[
        int | None,
        Setting(
            "VLLM_MAX_HELD_BYTES",
            auto_or(whole(16 << 20, 1 << 44)),
            "Memory in bytes for decoded images, waiting calls, incomplete HTTP bodies and unread replies; all but the "
            "images get at most a quarter of it. Above it, calls get the error 'busy'.",
            "a quarter of the memory, at most 4 GiB",
        ),
    ] = None
    max_result_bytes: Annotated[
        int,
        Setting(
            "VLLM_MAX_RESULT_BYTES",
            whole(10_000, 10_000_000),
            "Longest tool result in bytes; Claude Desktop accepts 1 MiB.",
        ),
    ] = 1_000_000
    toolsets: Annotated[
        tuple[str, ...],
        Setting(
            "VLLM_TOOLSETS",
            some_of(*TOOLSETS),
            "Families of tools to offer; slim: the four main tools (`--slim`).",
            "all",
        ),
    ] = ()
    tools: Annotated[
        tuple[str, ...],
        Setting(
            "VLLM_TOOLS",
            WORDS,
            "Single tools to offer: a name or a pattern with * adds tools, -name removes them, from left to right. The "
            "list changes what VLLM_TOOLSETS selects. Without that it starts from no tool, or from all tools if its "
            "first word removes some.",
            "what VLLM_TOOLSETS selects",
        ),
    ] = ()

    apps: Annotated[
        bool,
        Setting(
            "VLLM_APPS",
            SWITCH,
            "1: hosts with MCP Apps show images, videos, jobs and analyses in a view; 0: no view is offered.",
        ),
    ] = True

    ask: Annotated[
        str,
        Setting(
            "VLLM_ASK",
            choice("auto", "never"),
            "auto: the first `generate_multimodal_response` to a provider on another machine asks the user, where the "
            "client can show the question; never: no questions.",
        ),
    ] = "auto"

    @property
    def offered_tools(self) -> tuple[str, ...]:
        """The names of the tools to offer, in the order of `tools/list`."""
        return selected(self.toolsets, self.tools)

    @property
    def instructions(self) -> str:
        """The server's instructions for the host's model, about the tools on offer."""
        return instructions(self.offered_tools)

    def offers(self, *families: str) -> bool:
        """Whether a tool is offered that is in no other than these families."""
        return any(set(families_of(name)) <= set(families) for name in self.offered_tools)


class HttpSettings(msgspec.Struct, frozen=True):
    """The transport, and who may connect over HTTP."""

    transport: Annotated[
        str,
        Setting(
            "VLLM_TRANSPORT",
            choice(*TRANSPORTS),
            "Transport (`--transport`); sse: Streamable HTTP and the older HTTP+SSE.",
        ),
    ] = "stdio"
    host: Annotated[
        str,
        Setting(
            "VLLM_HTTP_HOST",
            TEXT,
            "Address to listen on (`--host`); any but a loopback address needs VLLM_HTTP_TOKENS.",
        ),
    ] = "127.0.0.1"
    port: Annotated[
        int, Setting("VLLM_HTTP_PORT", whole(0, 65_535), "Port to listen on (`--port`); 0: any free port.")
    ] = 8080
    tokens: Annotated[
        tuple[str, ...], Setting("VLLM_HTTP_TOKENS", TOKENS, "Bearer tokens; each HTTP request must carry one of them.")
    ] = ()
    allowed_hosts: Annotated[
        tuple[str, ...],
        Setting("VLLM_HTTP_ALLOWED_HOSTS", NAMES, "Further host names under which clients reach the server."),
    ] = ()
    allowed_origins: Annotated[
        tuple[str, ...],
        Setting(
            "VLLM_HTTP_ALLOWED_ORIGINS",
            NAMES,
            "Further web origins that may call the server, e.g. https://example.com; those of this machine always may.",
        ),
    ] = ()
    proxies: Annotated[
        tuple[str, ...],
        Setting(
            "VLLM_HTTP_PROXIES",
            NETWORKS,
            "Reverse proxies in front of the server, e.g. 10.0.0.7 or 10.0.0.0/8; the limit of connections per address "
            "does not apply to them.",
        ),
    ] = ()
