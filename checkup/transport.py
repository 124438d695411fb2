"""How clients come: over stdin and stdout, or over HTTP, and whether the server could listen there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkup.findings import Finding, ok, problem, warning

if TYPE_CHECKING:
    from handlers.services import Services

LEAST_TOKEN_LENGTH = 16
"""Shorter ones can be guessed; `openssl rand -hex 32` has 64."""


def transport(services: Services) -> list[Finding]:
    """The transport; over HTTP, an address is tried by listening on it for a moment."""
    settings = services.settings.http
    if settings.transport == "stdio":
        text = "Stdin and stdout: one client starts the server. `--transport http` serves several over HTTP."
        return [ok("transport", text)]
    from mcp_protocol.http.options import HttpOptions
    from mcp_protocol.http.service import CannotListen, listen  # needs uvicorn, which comes with vLLM

    options = HttpOptions(host=settings.host, port=settings.port, tokens=settings.tokens)
    try:
        listen(options).close()
    except CannotListen as error:
        hint = "Maybe a server runs there already; --port (VLLM_HTTP_PORT) takes another port."
        return [problem("transport", f"{error} {hint}" if "cannot listen" in str(error) else str(error))]
    port = f"port {settings.port}" if settings.port else "any free port"
    text = f"HTTP ({settings.transport}) can listen on {settings.host}, {port}"
    if not settings.tokens:
        return [ok("transport", f"{text}: only this machine can connect, and no token is asked for.")]
    if min(map(len, settings.tokens)) < LEAST_TOKEN_LENGTH:
        advice = "Make one with `openssl rand -hex 32`"
        return [
            warning(
                "transport", f"{text}, but a token in VLLM_HTTP_TOKENS is so short that it may be guessed. {advice}."
            )
        ]
    n_tokens = len(settings.tokens)
    return [ok("transport", f"{text}; {n_tokens} token{'s' * (n_tokens > 1)}. There is no TLS: put a proxy in front.")]
