"""How the server meets its clients: the wire, the queue, and the wire over HTTP."""

from typing import Annotated

import msgspec

from settings.kinds import (
    FILE,
    NAMES,
    NETWORKS,
    POSITIVE,
    TEXT,
    TOKENS,
    Setting,
    auto_or,
    choice,
    number,
    some_of,
    whole,
)

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
TRANSPORTS = ("stdio", "http", "sse")
TOOL_FAMILIES = ("chat", "vision", "gpu", "images", "video", "providers")


class ServerSettings(msgspec.Struct, frozen=True):
    """The wire and the queue."""

    log_level: Annotated[str, Setting("VLLM_LOG_LEVEL", choice(*LOG_LEVELS), "How much goes to the log.")] = "INFO"
    log_file: Annotated[
        str, Setting("VLLM_LOG_FILE", FILE, "A file that gets the log instead of stderr.", "stderr")
    ] = ""
    call_timeout_s: Annotated[
        float,
        Setting("VLLM_CALL_TIMEOUT", number(0, 86_400), "Seconds until a call is answered in any case; 0: no limit."),
    ] = 0.0
    max_concurrent: Annotated[
        int,
        Setting(
            "VLLM_MAX_CONCURRENT",
            whole(1, 256),
            "Calls that run at once, in one batch of the engine; above 1 replies come as they are ready, not in order.",
        ),
    ] = 1
    max_queue: Annotated[
        int, Setting("VLLM_MAX_QUEUE", whole(1, 1_000_000), "Calls that may wait; one more is told that all is busy.")
    ] = 2_000
    max_line_bytes: Annotated[
        int,
        Setting(
            "VLLM_MAX_LINE_BYTES", whole(1_024, 1 << 30), "Longest message read from stdin or over HTTP.", "64 MiB"
        ),
    ] = 64 << 20
    max_held_bytes: Annotated[
        int | None,
        Setting(
            "VLLM_MAX_HELD_BYTES",
            auto_or(whole(16 << 20, 1 << 44)),
            "Bytes for decoded images, waiting calls, unfinished HTTP bodies and unread answers together, for all but "
            "the images a quarter; beyond them a call is told that all is busy.",
            "a quarter of the memory, at most 4 GiB",
        ),
    ] = None
    max_result_bytes: Annotated[
        int,
        Setting("VLLM_MAX_RESULT_BYTES", whole(10_000, 10_000_000), "Longest tool result; Claude Desktop takes 1 MiB."),
    ] = 1_000_000
    toolsets: Annotated[
        tuple[str, ...], Setting("VLLM_TOOLSETS", some_of(*TOOL_FAMILIES), "Families of tools to offer.", "all")
    ] = ()

    def offers(self, *families: str) -> bool:
        """Whether tools of one of these families are offered."""
        return not self.toolsets or not set(families).isdisjoint(self.toolsets)


class HttpSettings(msgspec.Struct, frozen=True):
    """Whether clients come over stdin and stdout or over HTTP, and whom to let in there."""

    transport: Annotated[
        str,
        Setting(
            "VLLM_TRANSPORT",
            choice(*TRANSPORTS),
            "How clients come (`--transport`); sse: over HTTP, and over the older HTTP+SSE transport too.",
        ),
    ] = "stdio"
    host: Annotated[
        str, Setting("VLLM_HTTP_HOST", TEXT, "Address to listen on (`--host`); others than this machine's need tokens.")
    ] = "127.0.0.1"
    port: Annotated[
        int, Setting("VLLM_HTTP_PORT", whole(0, 65_535), "Port to listen on (`--port`); 0: any that is free.")
    ] = 8080
    tokens: Annotated[
        tuple[str, ...],
        Setting(
            "VLLM_HTTP_TOKENS", TOKENS, "Secrets, one of which each request must carry as its bearer token.", "none"
        ),
    ] = ()
    allowed_hosts: Annotated[
        tuple[str, ...],
        Setting("VLLM_HTTP_ALLOWED_HOSTS", NAMES, "More names by which clients may call the server.", "none"),
    ] = ()
    allowed_origins: Annotated[
        tuple[str, ...],
        Setting(
            "VLLM_HTTP_ALLOWED_ORIGINS",
            NAMES,
            "Web pages that may call the server, e.g. https://example.com, beside those of this machine.",
            "none",
        ),
    ] = ()
    proxies: Annotated[
        tuple[str, ...],
        Setting(
            "VLLM_HTTP_PROXIES",
            NETWORKS,
            "Proxies before the server, e.g. 10.0.0.7 or 10.0.0.0/8: their connections are not counted by address.",
            "none",
        ),
    ] = ()
    max_sessions: Annotated[
        int,
        Setting(
            "VLLM_HTTP_MAX_SESSIONS",
            POSITIVE,
            "Clients with a session at a time, for each token; the idlest of that token goes first.",
        ),
    ] = 100
    session_idle_s: Annotated[
        float,
        Setting(
            "VLLM_HTTP_SESSION_IDLE",
            number(0, 30 * 86_400, exclusive_minimum=True),
            "Seconds until the session of a silent client ends.",
        ),
    ] = 3600.0
