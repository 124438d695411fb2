"""The vLLM-Omni servers of this machine, and whether each of them sleeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from http_client.addresses import is_on_this_machine, root_of
from omni.sleep import SleepClient

if TYPE_CHECKING:
    from http_client.outgoing import Outgoing
    from settings import OmniSettings


@dataclass(slots=True)
class LocalServer:
    """One server.

    Attributes:
        n_running: how many generations of this process run there.
        is_awake: `None` where it is not known: an earlier process may have put it to sleep.
        sleeps: whether this process has put it to sleep.
        cannot_sleep: whether it has said that it cannot; it is not asked again.
        held_bytes: the most that other programs, and so the server, were seen to hold on its GPU.
        device: the GPU where it was put to sleep.
        has_gpu: whether this machine has a GPU on which it may be.
    """

    client: SleepClient
    n_running: int = 0
    is_awake: bool | None = None
    sleeps: bool = False
    cannot_sleep: bool = False
    held_bytes: int | None = None
    device: int | None = None
    has_gpu: bool = False

    @property
    def url(self) -> str:
        """Its address."""
        return self.client.url

    def learn(self, others_bytes: int | None) -> None:
        """Keeps what other programs hold: PyTorch keeps the memory of the largest generation so far."""
        if others_bytes is not None and not self.sleeps:
            self.held_bytes = max(self.held_bytes or 0, others_bytes)

    def fall_asleep(self, device: int, others_bytes: int | None) -> None:
        """It sleeps; other programs held so much on its GPU before."""
        self.learn(others_bytes)
        self.is_awake, self.sleeps, self.device = False, True, device


def local_servers(settings: OmniSettings, outgoing: Outgoing) -> dict[str, LocalServer]:
    """The servers that the settings name and that are on this machine, by their addresses."""
    named = (settings.video_url, settings.speech_url, *settings.video_models.values())
    addresses = (settings.url, *(address for address in named if address))
    urls = dict.fromkeys(root_of(address) for address in addresses if is_on_this_machine(address))
    clients = [SleepClient(url, settings.timeout_s, settings.api_key, outgoing) for url in urls]
    return {client.url: LocalServer(client) for client in clients}
