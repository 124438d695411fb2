"""The servers that others run for us: vLLM-Omni for pictures and for talking videos."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkup.findings import Finding, off, ok, problem, warning
from omni.errors import KeyRefused, OmniError, ServerFailed, ServerRefused, ServerUnreachable
from settings import OmniSettings

if TYPE_CHECKING:
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
    served, untold = None, ""
    try:
        health = ask(client.health())
        try:
            served = ask(client.served_model())
        except KeyRefused:
            raise
        except (ServerRefused, ServerFailed) as error:
            untold = str(error)
        version = ask(client.version())
    except ServerUnreachable as error:
        if error.why:
            return [problem("images", error.why)]
        return [_nobody(client.url, is_set=client.url != DEFAULT_URL)]
    except OmniError as error:
        return [problem("images", f"{client.url}: {error}")]
    if served is None and not health.is_well:
        return [problem("images", f"{client.url}: {untold}")]
    if served is None:
        return [warning("images", f"{client.url} is well, and does not tell its model. {untold}")]
    kind = f"vLLM-Omni {version}" if version else "a vLLM-Omni server"
    text = f"{client.url} is {kind} with {served.shown}; it answers in {health.latency_ms:.0f} ms"
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
