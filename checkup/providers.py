"""The services of the OpenAI API that calls may name as a provider."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from checkup.findings import Finding, off, ok, problem, warning
from engine.errors import EngineError
from settings.providers import DASHSCOPE, OPENAI, VLLM

if TYPE_CHECKING:
    from engine.model_server import Listing
    from engine.providers import Provider
    from handlers.services import Services

ASK_S = 10.0
"""How long all of them together may take to tell their models."""


def providers(services: Services) -> list[Finding]:
    """Whether each service answers and takes its key; the server at `VLLM_BASE_URL` has a row of its own."""
    if not services.settings.server.offers("providers"):
        return [off("providers", "Not offered: VLLM_TOOLSETS leaves providers out.")]
    remote = [provider for provider in services.providers.all if provider.name != VLLM]
    asked = [provider for provider in remote if provider.facts.missing is None]
    told = services.providers.ask(asked, lambda: False, time.monotonic() + ASK_S)
    return [_provider(provider, told.get(provider.name)) for provider in remote]


def _provider(provider: Provider, told: Listing | EngineError | None) -> Finding:
    subject, url = f"provider {provider.name}", provider.url
    if told is None:  # it was not asked
        text = f"Not set up: {provider.facts.missing} is not set."
        if provider.name in (OPENAI, DASHSCOPE):
            return off(subject, f"{text} Set it to use {provider.host}.")
        return problem(subject, f"{text} Set it, or take this provider out of the file of VLLM_CONFIG_FILE.")
    if isinstance(told, EngineError):
        return problem(subject, str(told))
    models = provider.models(told)
    if not models:
        return ok(subject, f"{url} answers, and does not tell its models; calls have to name one.")
    default = provider.facts.default_model
    if default is not None and default not in {model.id for model in models} and not provider.facts.unlisted_models:
        return warning(subject, f"{url} answers, but has no model {default}, its default_model. Name another one.")
    return ok(subject, f"{url} answers; models: {len(models)}.")
