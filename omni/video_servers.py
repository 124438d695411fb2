"""The servers that make talking videos, by the names that callers give them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

from http_client.addresses import root_of
from http_client.outgoing import Outgoing
from omni.errors import (
    ConnectionLost,
    InvalidParameters,
    OmniError,
    ServerFailed,
    ServerRefused,
    ServerTooSlow,
    ServerUnreachable,
    UnusableAnswer,
)
from omni.video_client import VideoClient
from omni.video_models import CAPABLE, WAN_S2V, VideoProfile, is_known, talking_profile

INFINITETALK = (
    "single_original", "multi_original", "single_int8", "multi_int8", "single_fp8", "multi_fp8",
)  # fmt: skip
MULTITALK = ("multitalk_original", "multitalk_int8_fusionx", "multitalk_fp8_fusionx")
"""Checkpoints that other servers of talking video know. vLLM-Omni has neither model; the names mean its own."""
ALWAYS_KNOWN = INFINITETALK + MULTITALK
UNKNOWN = "unknown"
"""The name of a model that its server does not tell."""
LOOK_TIMEOUT_S = 3.0
"""How long a list of all servers waits for each of them."""


class VideoModel(msgspec.Struct, frozen=True):
    """A server's model and what suits it; `served_as` is the name that the server wants to hear. A server that does not
    tell its model needs none; why it does not is in `untold` then."""

    name: str
    served_as: str | None
    profile: VideoProfile
    known: bool
    untold: str | None = None

    @property
    def warning(self) -> str | None:
        """What to tell users of a model that nobody knows."""
        if self.known:
            return None
        if self.untold is not None:
            return f"The server does not tell its model; it was asked as Wan2.2-S2V is. {self.untold}"
        return f"Nothing is known of the model '{self.name}'; it was asked as Wan2.2-S2V is."


class ServerState(msgspec.Struct, frozen=True):
    """One server as a list shows it; `talks` is None where that is not known."""

    url: str
    model_types: list[str]
    model: str | None
    talks: bool | None
    note: str


class VideoServers:
    """Which server a `model_type` means.

    Arguments: the default server's address, the addresses of the others by name, all with `/v1` or without; the key
    that they ask for; how to get there.
    """

    def __init__(
        self,
        url: str,
        named: Mapping[str, str],
        timeout_s: float,
        api_key: str | None,
        outgoing: Outgoing | None = None,
    ) -> None:
        self._url = root_of(url)
        self._named = {name: root_of(each) for name, each in named.items()}
        urls = {self._url, *self._named.values()}
        self._clients = {each: VideoClient(each, timeout_s, api_key, outgoing) for each in urls}

    def names(self) -> list[str]:
        """All that may be asked for."""
        return list(dict.fromkeys([*self._named, *ALWAYS_KNOWN]))

    def client(self, model_type: str) -> VideoClient:
        """The server of that name; raises `InvalidParameters`."""
        if model_type not in self._named and model_type not in ALWAYS_KNOWN:
            raise InvalidParameters(
                f"model_type {model_type[:60]!r} is not known. There are: {', '.join(self.names())}. Each means a "
                "vLLM-Omni server; list_available_models tells what each serves, OMNI_VIDEO_MODELS adds more."
            )
        return self._clients[self._named.get(model_type, self._url)]

    async def model(self, client: VideoClient) -> VideoModel:
        """What a server serves. One that does not tell is asked as the best known model is.

        Raises: `ServerRefused` where it does not talk, `ServerUnreachable`.
        """
        try:
            served = await client.served_model()
        except (ConnectionLost, ServerRefused, ServerFailed, ServerTooSlow, UnusableAnswer) as error:
            return VideoModel(UNKNOWN, None, WAN_S2V, False, str(error))
        profile = talking_profile(served.id, served.root)
        if profile is None:
            raise ServerRefused(
                f"The vLLM-Omni server at {client.url} serves {served.shown}, which does not make videos from a "
                f"picture and a voice. {_ADVICE}"
            )
        return VideoModel(served.shown, served.id, profile, is_known(served.id, served.root))

    async def states(self) -> list[ServerState]:
        """All servers and what each serves, asked now."""
        return list(await asyncio.gather(*map(self._state, self._clients.values())))

    async def close(self) -> None:
        """Closes all connections."""
        for client in self._clients.values():
            await client.close()

    async def _state(self, client: VideoClient) -> ServerState:
        names = [name for name in self.names() if self._named.get(name, self._url) == client.url]
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                served = await client.served_model()
        except ServerUnreachable as error:
            note = error.why or f"Nobody answers there. {_ADVICE}"
            return ServerState(client.url, names, None, None, note)
        except (OmniError, TimeoutError) as error:
            return ServerState(client.url, names, None, None, str(error) or "It does not answer in time.")
        talks: bool | None = talking_profile(served.id, served.root) is not None
        if not talks:
            note = f"It does not make videos from a picture and a voice. {_ADVICE}"
        elif is_known(served.id, served.root):
            note = "Makes a video from a picture and a voice."
        else:
            talks, note = None, f"Nothing is known of this model. Models that can: {CAPABLE}."
        return ServerState(client.url, names, served.shown, talks, note)


_ADVICE = (
    f"Models that can: {CAPABLE}. Serve one (`vllm serve Wan-AI/Wan2.2-S2V-14B --omni`, or for noise without a GPU "
    "`scripts/omni-cpu --video`) and set OMNI_VIDEO_URL to its address."
)
