"""The servers that make talking videos, by `model_type`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

from http_client.addresses import root_of
from http_client.outgoing import Outgoing
from omni.client import UNKNOWN, UNREPORTED_MODEL
from omni.errors import InvalidParameters, OmniError, ServerRefused, ServerUnreachable
from omni.turns import Turns
from omni.video.client import VideoClient
from omni.video.models import CAPABLE, WAN_S2V, VideoProfile, is_known, talking_profile
from settings import in_clone

INFINITETALK = (
    "single_original", "multi_original", "single_int8", "multi_int8", "single_fp8", "multi_fp8",
)  # fmt: skip
MULTITALK = ("multitalk_original", "multitalk_int8_fusionx", "multitalk_fp8_fusionx")
"""Checkpoints of other servers. vLLM-Omni has neither model; the names stand for the default server."""
ALWAYS_KNOWN = INFINITETALK + MULTITALK
LOOK_TIMEOUT_S = 3.0
"""How long a list of all servers waits for each server."""


class VideoModel(msgspec.Struct, frozen=True):
    """The served model with its profile.

    Attributes:
        name: for users.
        served_as: the name in requests; `None` where the server reports no model.
        profile: its parameters.
        known: whether it is known to make talking videos.
        unreported: why the server reports no model.
    """

    name: str
    served_as: str | None
    profile: VideoProfile
    known: bool
    unreported: str | None = None

    @property
    def warning(self) -> str | None:
        """The warning for an unknown model."""
        if self.known:
            return None
        if self.unreported is not None:
            return f"The server does not report its model; the request is the one for Wan2.2-S2V. {self.unreported}"
        return f"The model '{self.name}' is unknown; the request is the one for Wan2.2-S2V."


class ServerState(msgspec.Struct, frozen=True):
    """One server in a list; `talks` is `None` where that is not known."""

    url: str
    model_types: list[str]
    model: str | None
    talks: bool | None
    note: str


class VideoServers:
    """The servers by `model_type`.

    Arguments:
        url: the address of the default server, with or without `/v1`.
        named: the addresses of other servers by `model_type`.
        timeout_s: the time limit of a request.
        api_key: the key of all servers.
        outgoing: makes the HTTP clients.
        turns: says when a generation may begin.
    """

    def __init__(
        self,
        url: str,
        named: Mapping[str, str],
        timeout_s: float,
        api_key: str | None,
        outgoing: Outgoing | None = None,
        turns: Turns | None = None,
    ) -> None:
        self._url = root_of(url)
        self._named = {name: root_of(each) for name, each in named.items()}
        urls = {self._url, *self._named.values()}
        self._clients = {each: VideoClient(each, timeout_s, api_key, outgoing, turns) for each in urls}

    def names(self) -> list[str]:
        """All values of `model_type`."""
        return list(dict.fromkeys([*self._named, *ALWAYS_KNOWN]))

    def client(self, model_type: str) -> VideoClient:
        """The server of that name; raises `InvalidParameters`."""
        if model_type not in self._named and model_type not in ALWAYS_KNOWN:
            raise InvalidParameters(
                f"model_type {model_type[:60]!r} is unknown. Use one of: {', '.join(self.names())}. Each means a "
                "vLLM-Omni server; list_available_models shows what each serves, OMNI_VIDEO_MODELS adds more."
            )
        return self._clients[self._named.get(model_type, self._url)]

    async def model(self, client: VideoClient) -> VideoModel:
        """The model of a server. A server that reports none gets requests for Wan2.2-S2V.

        Raises: `ServerRefused` where the model makes no talking videos; `ServerUnreachable`.
        """
        try:
            served = await client.served_model()
        except UNREPORTED_MODEL as error:
            return VideoModel(UNKNOWN, None, WAN_S2V, False, str(error))
        profile = talking_profile(served.id, served.root)
        if profile is None:
            raise ServerRefused(
                f"The vLLM-Omni server at {client.url} serves {served.shown}, which does not make videos from an "
                f"image and a voice. {_ADVICE}"
            )
        return VideoModel(served.shown, served.id, profile, is_known(served.id, served.root))

    async def states(self) -> list[ServerState]:
        """Asks all servers for their models."""
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
            note = error.why or f"There is no server at this address. {_ADVICE}"
            return ServerState(client.url, names, None, None, note)
        except (OmniError, TimeoutError) as error:
            return ServerState(client.url, names, None, None, str(error) or "It does not respond in time.")
        talks: bool | None = talking_profile(served.id, served.root) is not None
        if not talks:
            note = f"It does not make videos from an image and a voice. {_ADVICE}"
        elif is_known(served.id, served.root):
            note = "Makes a video from an image and a voice."
        else:
            talks, note = None, f"This model is unknown. Models that can: {CAPABLE}."
        return ServerState(client.url, names, served.shown, talks, note)


_ADVICE = (
    f"Models that can: {CAPABLE}. Serve one (`vllm serve Wan-AI/Wan2.2-S2V-14B --omni`"
    f"{in_clone(', or without a GPU, for noise only, `scripts/omni-cpu --video`')}) and set OMNI_VIDEO_URL to its "
    "address."
)
