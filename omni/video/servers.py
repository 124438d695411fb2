"""The servers that make videos, by `model_type`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress

import msgspec

from http_client.addresses import root_of
from http_client.outgoing import Outgoing
from omni.client import UNKNOWN, UNREPORTED_MODEL
from omni.errors import InvalidParameters, OmniError, ServerRefused, ServerUnreachable
from omni.turns import Turns
from omni.video.abilities import Abilities, abilities, advice
from omni.video.client import VideoClient
from omni.video.models import CAPABLE, WAN_S2V, VideoProfile, is_known, talking_profile
from omni.video.text_models import FALLBACK, TextVideoProfile, text_video_profile

INFINITETALK = (
    "single_original", "multi_original", "single_int8", "multi_int8", "single_fp8", "multi_fp8",
)  # fmt: skip
MULTITALK = ("multitalk_original", "multitalk_int8_fusionx", "multitalk_fp8_fusionx")
"""Checkpoints of other servers. vLLM-Omni has neither model; the names stand for the default server."""
ALWAYS_KNOWN = INFINITETALK + MULTITALK
LOOK_TIMEOUT_S = 3.0
"""How long a list of all servers waits for each server."""
CHOICE_KNOWN_S = 30.0
"""How long a server stays the chosen one for calls that name none."""


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

    @property
    def advice(self) -> str | None:
        """What to say beside the error of an unknown model."""
        return None if self.known else f"Models known to make talking videos: {CAPABLE}."


class TextVideoModel(msgspec.Struct, frozen=True):
    """A served model that makes videos from words or an image; the attributes are those of `VideoModel`."""

    name: str
    served_as: str | None
    profile: TextVideoProfile
    known: bool
    unreported: str | None = None

    @property
    def warning(self) -> str | None:
        """The warning for an unknown model."""
        if self.known:
            return None
        profile = self.profile
        cause = f"The model '{self.name}' is unknown."
        if self.unreported is not None:
            cause = f"The server does not report its model. {self.unreported}"
        return (
            f"{cause} The request has common defaults ({profile.default_steps} steps, guidance "
            f"{profile.default_guidance_scale:g}, {profile.num_frames} frames). A model for words alone would ignore "
            "an image."
        )

    @property
    def advice(self) -> str | None:
        """What to say beside the error of an unknown model."""
        return None if self.known else advice(Abilities(None, True, True))


class ServerState(msgspec.Struct, frozen=True):
    """One server in a list, and what its model makes videos from; `None` where that is not known.

    Attributes:
        talks: from an image and a voice.
        text: from words.
        image: from an image and words.
    """

    url: str
    model_types: list[str]
    model: str | None
    talks: bool | None
    note: str
    text: bool | None = None
    image: bool | None = None


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
        urls = dict.fromkeys([self._url, *self._named.values()])
        self._clients = {each: VideoClient(each, timeout_s, api_key, outgoing, turns) for each in urls}
        self._chosen: dict[bool, tuple[VideoClient, float]] = {}

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
                f"image and a voice. {advice(Abilities(True, None, None))}"
            )
        return VideoModel(served.shown, served.id, profile, is_known(served.id, served.root))

    async def text_model(self, model_type: str | None, *, with_image: bool) -> tuple[VideoClient, TextVideoModel]:
        """The server and the model for a video from words, or from an image and words.

        Arguments:
            model_type: the server; by default the first whose model can, an unknown model only where no other can.
            with_image: whether the video begins with an image.

        Raises: `InvalidParameters` for an unknown name; `ServerRefused` where the model cannot; `ServerUnreachable`.
        """
        if model_type is not None:
            client = self.client(model_type)
            return client, await self._text_model(client, with_image=with_image)
        chosen = self._chosen.get(with_image)
        if chosen is not None and time.monotonic() < chosen[1]:
            with suppress(OmniError):  # it serves another model by now, or nothing
                return chosen[0], await self._text_model(chosen[0], with_image=with_image)
        return await self._choose(with_image=with_image)

    async def states(self) -> list[ServerState]:
        """Asks all servers for their models."""
        return list(await asyncio.gather(*map(self._state, self._clients.values())))

    async def close(self) -> None:
        """Closes all connections."""
        for client in self._clients.values():
            await client.close()

    async def _choose(self, *, with_image: bool) -> tuple[VideoClient, TextVideoModel]:
        """Asks all servers, each for `LOOK_TIMEOUT_S` at most, and takes the first with a known model that can."""
        clients = list(self._clients.values())

        async def look(client: VideoClient) -> TextVideoModel | OmniError:
            try:
                async with asyncio.timeout(LOOK_TIMEOUT_S):
                    return await self._text_model(client, with_image=with_image)
            except TimeoutError:
                return ServerRefused(f"The server at {client.url} does not respond in time.")
            except OmniError as error:
                return error

        found = list(zip(clients, await asyncio.gather(*map(look, clients)), strict=True))
        able = [(client, model) for client, model in found if isinstance(model, TextVideoModel)]
        if able:
            chosen = next((pair for pair in able if pair[1].known), able[0])
            self._chosen[with_image] = chosen[0], time.monotonic() + CHOICE_KNOWN_S
            return chosen
        errors = [error for _, error in found if isinstance(error, OmniError)]
        if len(errors) == 1 or all(isinstance(error, ServerUnreachable) for error in errors):
            raise errors[0]
        wanted = _wanted(with_image)
        states = await self.states()
        served = "; ".join(f"{state.url} {_served(state)}" for state in states)
        raise ServerRefused(f"No configured server makes {wanted.description}: {served}. {advice(wanted)}")

    async def _text_model(self, client: VideoClient, *, with_image: bool) -> TextVideoModel:
        """The model of a server; raises `ServerRefused` where it cannot, `ServerUnreachable`."""
        try:
            served = await client.served_model()
        except UNREPORTED_MODEL as error:
            return TextVideoModel(UNKNOWN, None, FALLBACK, False, str(error))
        found = text_video_profile(served.id, served.root)
        why = None
        if found is None:
            why = "makes no videos from words or an image."
        elif with_image and not found[0].from_image:
            why = "makes videos from words alone and would ignore the image: leave out image_path."
        elif not with_image and not found[0].from_text:
            why = "makes videos only from an image and words: give image_path."
        if found is None or why is not None:
            raise ServerRefused(
                f"The vLLM-Omni server at {client.url} serves {served.shown}, which {why} {advice(_wanted(with_image))}"
            )
        profile, known = found
        return TextVideoModel(served.shown, served.id, profile, known)

    async def _state(self, client: VideoClient) -> ServerState:
        names = [name for name in self.names() if self._named.get(name, self._url) == client.url]
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                served = await client.served_model()
        except ServerUnreachable as error:
            note = error.why or f"There is no server at this address. {advice(Abilities(True, True, True))}"
            return ServerState(client.url, names, None, None, note)
        except (OmniError, TimeoutError) as error:
            return ServerState(client.url, names, None, None, str(error) or "It does not respond in time.")
        can = abilities(served)
        return ServerState(client.url, names, served.shown, can.talks, can.note, can.text, can.image)


def _wanted(with_image: bool) -> Abilities:
    """The ability that a call needs."""
    return Abilities(None, None, True) if with_image else Abilities(None, True, None)


def _served(state: ServerState) -> str:
    """What is said of a server that cannot do what was asked for."""
    if state.model is None:
        return "does not report its model"
    makes = Abilities(state.talks, state.text, state.image).description
    return f"serves {state.model} ({makes or 'no videos'})"
