"""The servers that others run for us: vLLM-Omni for pictures and for talking videos, and providers of models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkup.findings import Finding, off, ok, problem, warning
from engine.errors import EngineError
from omni.errors import OmniError, ServerUnreachable
from provider_settings import DASHSCOPE, OPENAI, VLLM
from settings import OmniSettings

if TYPE_CHECKING:
    from engine.model_server import Listing
    from engine.providers import Provider
    from handlers.services import Services
    from omni.video_servers import ServerState

DEFAULT_URL = OmniSettings().url
"""Where a server is looked for that nobody set; none there is no problem."""


def profiles(services: Services) -> list[Finding]:
    """The file with profiles of image models, where there is one."""
    path = services.settings.omni.profiles
    if path is None:
        return []
    try:
        services.image_maker.profiles.find("")
    except OmniError as error:
        return [problem("profiles", f"{error} Mend it, or leave OMNI_PROFILES empty.")]
    return [ok("profiles", f"{path} can be used.")]


def images(services: Services) -> list[Finding]:
    """The vLLM-Omni server that makes pictures."""
    if not services.settings.server.offers("images"):
        return [off("images", "Not offered: VLLM_TOOLSETS leaves images out.")]
    client, ask = services.image_maker.client, services.jobs.ask
    try:
        latency_ms = ask(client.latency_ms())
        served, version = ask(client.served_model()), ask(client.version())
    except ServerUnreachable:
        return [_nobody(client.url, is_set=client.url != DEFAULT_URL)]
    except OmniError as error:
        return [problem("images", f"{client.url}: {error}")]
    kind = f"vLLM-Omni {version}" if version else "a vLLM-Omni server"
    text = f"{client.url} is {kind} with {served.shown}; it answers in {latency_ms:.0f} ms"
    try:
        _, is_known = services.image_maker.profiles.find(served.id, served.root)
    except OmniError:  # told in the row of the profiles
        is_known = True
    if not is_known:
        note = "Nothing is known of this model, so 28 steps and 1024×1024 are asked for; OMNI_PROFILES can say better"
        return [warning("images", f"{text}. {note}.")]
    return [ok("images", f"{text}.")]


def video(services: Services) -> list[Finding]:
    """The vLLM-Omni servers that make faces talk."""
    if not services.settings.server.offers("video"):
        return [off("video", "Not offered: VLLM_TOOLSETS leaves video out.")]
    states = services.jobs.ask(services.video_maker.servers.states())
    return [_video_server(state, services.settings.omni) for state in sorted(states, key=lambda state: state.url)]


def providers(services: Services) -> list[Finding]:
    """Services with more models: whether each that is set up answers and takes its key."""
    if not services.settings.server.offers("providers"):
        return [off("providers", "Not offered: VLLM_TOOLSETS leaves providers out.")]
    others = [provider for provider in services.providers.all if provider.name != VLLM]  # that is the model server
    told = services.providers.ask([provider for provider in others if provider.facts.missing is None], lambda: False)
    unset = [provider for provider in others if provider.facts.missing is not None and provider.name not in told]
    found = [_provider(provider, told[provider.name]) for provider in others if provider.name in told]
    of_the_file = [provider for provider in unset if provider.name not in (OPENAI, DASHSCOPE)]
    found += [problem(provider.name, provider.not_configured()) for provider in of_the_file]
    wanted = [str(provider.facts.missing) for provider in unset if provider not in of_the_file]
    return found or [off("providers", f"None is configured: set {' or '.join(wanted)} for hosted models.")]


def _provider(provider: Provider, told: Listing | EngineError) -> Finding:
    if isinstance(told, EngineError):
        return problem(provider.name, str(told))
    if told.models is None and not provider.facts.models:
        return warning(provider.name, f"{provider.url} answers and does not tell its models: calls must name one.")
    n_models = len(provider.models(told))
    return ok(provider.name, f"{provider.url} answers, with {n_models} model{'s' * (n_models != 1)}.")


def _nobody(url: str, *, is_set: bool) -> Finding:
    start = "Start a vLLM-Omni server (`vllm serve MODEL --omni`, or without a GPU `scripts/omni-cpu`)"
    if is_set:
        return problem("images", f"Nobody answers at {url}. {start}, or set OMNI_URL to the address of one.")
    text = f"Nobody answers at {url}, so no pictures can be made. {start}, or set OMNI_URL, if you want some."
    return off("images", text)


def _video_server(state: ServerState, settings: OmniSettings) -> Finding:
    from omni.video_servers import ALWAYS_KNOWN  # brings httpx, which may be what is missing

    names = [name for name in state.model_types if name not in ALWAYS_KNOWN]
    subject = f"video {names[0]}" if names else "video"
    served = f"{state.url} serves {state.model}" if state.model else state.url
    text = f"{served}. {state.note}" if state.model else f"{served}: {state.note}"
    if state.talks:
        return ok(subject, text)
    if state.model and state.talks is None:
        return warning(subject, text)
    is_set = bool(names) or settings.video_url is not None
    return problem(subject, text) if is_set else off(subject, text)
