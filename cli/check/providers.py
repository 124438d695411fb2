"""Checks of the providers."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from cli.check.findings import Finding, off, ok, problem, warning
from engine.errors import EngineError
from sandbox.cancellation import Cancellation
from settings.providers import DASHSCOPE, OPENAI, VLLM

if TYPE_CHECKING:
    from engine.remote.model_server import Listing
    from engine.remote.providers import Provider
    from handlers.services import Services

ASK_S = 10.0
"""How long all providers together may take to list their models."""


def providers(services: Services) -> list[Finding]:
    """Whether each provider responds and accepts its key; the server of `VLLM_BASE_URL` has its own row."""
    if not services.settings.server.offers("providers"):
        return [off("providers", "Not offered: the settings leave out the tools for providers.")]
    remote = [provider for provider in services.providers.all if provider.name != VLLM]
    asked = [provider for provider in remote if provider.facts.missing is None]
    listings = services.providers.ask(asked, Cancellation(), time.monotonic() + ASK_S)
    return [_provider(provider, listings.get(provider.name)) for provider in remote]


def _provider(provider: Provider, listing: Listing | EngineError | None) -> Finding:
    subject, url = f"provider {provider.name}", provider.url
    if listing is None:  # not configured
        text = f"Not configured: {provider.facts.missing} is not set."
        if provider.name in (OPENAI, DASHSCOPE):
            return off(subject, f"{text} Set it to use {provider.host}.")
        return problem(subject, f"{text} Set it, or remove this provider from the file of VLLM_CONFIG_FILE.")
    if isinstance(listing, EngineError):
        return problem(subject, str(listing))
    models = provider.models(listing)
    if not models:
        return ok(subject, f"{url} responds but lists no models; calls must name one.")
    default = provider.facts.default_model
    if default is not None and default not in {model.id for model in models} and not provider.facts.unlisted_models:
        return warning(subject, f"{url} responds but does not list its default_model {default}. Set another one.")
    return ok(subject, f"{url} responds; models: {len(models)}.")
