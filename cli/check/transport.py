"""Check of the transport: stdio, or whether the server can listen for HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.check.findings import Finding, ok, problem, warning

if TYPE_CHECKING:
    from handlers.services import Services

MIN_TOKEN_LENGTH = 16
"""Shorter tokens can be guessed; `openssl rand -hex 32` prints 64 characters."""


def transport(services: Services) -> list[Finding]:
    """The transport; for HTTP, the check listens on the address for a moment."""
    settings = services.settings.http
    if settings.transport == "stdio":
        text = "stdio: one client starts the server. `--transport http` serves several clients over HTTP."
        return [ok("transport", text)]
    from mcp_protocol.http.service import CannotListen, listen  # needs uvicorn, which comes with vLLM

    try:
        listen(settings).close()
    except CannotListen as error:
        hint = "Maybe a server already runs there; --port (VLLM_HTTP_PORT) sets another port."
        return [problem("transport", f"{error} {hint}" if "cannot listen" in str(error) else str(error))]
    port = f"port {settings.port}" if settings.port else "any free port"
    text = f"HTTP ({settings.transport}) can listen on {settings.host}, {port}"
    if not settings.tokens:
        return [ok("transport", f"{text}: only this machine can connect, and no token is required.")]
    if min(map(len, settings.tokens)) < MIN_TOKEN_LENGTH:
        advice = "Generate one with `openssl rand -hex 32`"
        return [
            warning("transport", f"{text}, but a token in VLLM_HTTP_TOKENS is short enough to be guessed. {advice}.")
        ]
    n_tokens = len(settings.tokens)
    return [ok("transport", f"{text}; {n_tokens} token{'s' * (n_tokens > 1)}. There is no TLS: put a proxy in front.")]
