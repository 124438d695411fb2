"""Checks of the vLLM-Omni servers for images, videos and speech."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cli.check.findings import Finding, off, ok, problem, warning
from omni.errors import KeyRefused, OmniError, ServerFailed, ServerRefused, ServerUnreachable
from settings import OmniSettings, in_clone

if TYPE_CHECKING:
    from handlers.services import Services
    from omni.video.servers import ServerState

DEFAULT_URL = OmniSettings().url
"""The default address; it is no problem if no server runs there."""


def profiles(services: Services) -> list[Finding]:
    """The file with profiles of image models, if any."""
    path = services.settings.omni.profiles
    if path is None:
        return []
    try:
        services.image_maker.profiles.find("")
    except OmniError as error:
        return [problem("profiles", f"{error} Fix it, or leave OMNI_PROFILES empty.")]
    return [ok("profiles", f"{path} is valid.")]


def images(services: Services) -> list[Finding]:
    """The vLLM-Omni server for images."""
    if not services.settings.server.offers("images"):
        return [off("images", "Not offered: the settings leave out the tools for images.")]
    client, ask = services.image_maker.client, services.jobs.ask
    served, model_error = None, ""
    try:
        health = ask(client.health())
        try:
            served = ask(client.served_model())
        except KeyRefused:
            raise
        except (ServerRefused, ServerFailed) as error:
            model_error = str(error)
        version = ask(client.version())
    except ServerUnreachable as error:
        if error.why:
            return [problem("images", error.why)]
        return [_unreachable(client.url, is_set=client.url != DEFAULT_URL)]
    except OmniError as error:
        return [problem("images", f"{client.url}: {error}")]
    if served is None and not health.is_well:
        return [problem("images", f"{client.url}: {model_error}")]
    if served is None:
        return [warning("images", f"{client.url} is healthy but does not report its model. {model_error}")]
    kind = f"vLLM-Omni {version}" if version else "a vLLM-Omni server"
    text = f"{client.url} is {kind} with {served.shown}; it responds in {health.latency_ms:.0f} ms"
    try:
        _, is_known = services.image_maker.profiles.find(served.id, served.root)
    except OmniError:  # reported in the row of the profiles
        is_known = True
    if not is_known:
        note = "This model has no profile, so the defaults are 28 steps and 1024×1024; OMNI_PROFILES can add one"
        return [warning("images", f"{text}. {note}.")]
    return [ok("images", f"{text}.")]


def video(services: Services) -> list[Finding]:
    """The vLLM-Omni servers for videos."""
    if not services.settings.server.offers("video"):
        return [off("video", "Not offered: the settings leave out the tools for video.")]
    states = services.jobs.ask(services.video_maker.servers.states())
    return [_video_server(state, services.settings.omni) for state in sorted(states, key=lambda state: state.url)]


def speech(services: Services) -> list[Finding]:
    """The vLLM-Omni server for speech, where one is set: without one, that of the images is not expected to speak."""
    settings = services.settings
    if "generate_speech" not in settings.server.offered_tools:
        return [off("speech", "Not offered: the settings leave out the tool that speaks.")]
    if settings.omni.speech_url is None:
        return [off("speech", "OMNI_SPEECH_URL is not set: generate_speech tries the server of OMNI_URL.")]
    state = services.jobs.ask(services.speech_maker.state())
    served = f"{state.url} serves {state.model}. {state.note}" if state.model else f"{state.url}: {state.note}"
    if state.model is None or state.speaks is False:
        return [problem("speech", served)]
    return [ok("speech", served) if state.speaks else warning("speech", served)]


def _unreachable(url: str, *, is_set: bool) -> Finding:
    without_gpu = in_clone(", or without a GPU `scripts/omni-cpu`")
    advice = f"Start a vLLM-Omni server (`vllm serve MODEL --omni`{without_gpu}), or set OMNI_URL"
    if is_set:
        return problem("images", f"No server responds at {url}. {advice}.")
    return off("images", f"No server responds at {url}, so no images can be generated. {advice} for that.")


def _video_server(state: ServerState, settings: OmniSettings) -> Finding:
    from omni.video.servers import ALWAYS_KNOWN  # imports httpx, which may be missing

    names = [name for name in state.model_types if name not in ALWAYS_KNOWN]
    subject = f"video {names[0]}" if names else "video"
    served = f"{state.url} serves {state.model}" if state.model else state.url
    text = f"{served}. {state.note}" if state.model else f"{served}: {state.note}"
    can = (state.talks, state.text, state.image)
    if any(can):
        return ok(subject, text)
    if state.model and None in can:
        return warning(subject, text)
    is_set = bool(names) or settings.video_url is not None
    return problem(subject, text) if is_set else off(subject, text)
