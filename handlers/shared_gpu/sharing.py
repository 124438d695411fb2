"""Who has the GPU: the chat models of this process, or the vLLM-Omni servers of this machine.

before a generation   chat models that no call uses sleep, where its memory is short; a sleeping server wakes up
before a load         servers that have no work sleep, where its memory is short

Whoever sleeps comes back with its own next call. Nothing here raises: what goes wrong is in the log, and the load or
generation is tried anyway.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from engine import model_catalog
from engine.hardware import gpu
from engine.interface import EngineState
from engine.room import gpu_share
from handlers.shared_gpu.decisions import MIN_MODEL_BYTES, Action, decide, needed_by_generation, needed_by_load
from handlers.shared_gpu.devices import can_sleep, most_used_by_others, of_index, others_bytes_of
from handlers.shared_gpu.servers import LocalServer, local_servers
from omni.errors import InvalidResponse, OmniError, ServerFailed, ServerRefused, ServerUnreachable
from omni.jobs.jobs import run_until_cancelled

if TYPE_CHECKING:
    from engine.hardware.gpu import Device
    from engine.hardware.memory import MemoryUse
    from engine.interface import Engine
    from engine.models import Models
    from engine.residency import Wait
    from http_client.outgoing import Outgoing
    from omni.images.generate import ImageMaker
    from omni.jobs.jobs import Jobs
    from sandbox.cancellation import Cancellation
    from settings import Settings

WAIT_S = 300.0
"""How long a load or a generation waits for the others; then it is tried with the memory that there is."""
POLL_S = 0.25

log = logging.getLogger("omni")


class Parts(Protocol):
    """The parts of the server that share the GPU; each is made when it is first asked for."""

    @property
    def outgoing(self) -> Outgoing:
        """Makes HTTP clients."""

    @property
    def models(self) -> Models:
        """The chat models."""

    @property
    def jobs(self) -> Jobs:
        """Has the event loop of the clients."""

    @property
    def image_maker(self) -> ImageMaker:
        """Knows the image model."""

    def memory_use(self) -> MemoryUse:
        """Measures now."""


class SharedGpu:
    """Any thread may use it; `begin` and `end` are those of `omni.turns.Turns`.

    Arguments:
        settings: all settings.
        parts: who shares the GPU.
    """

    def __init__(self, settings: Settings, parts: Parts) -> None:
        self._settings = settings
        self._parts = parts
        self._changing = threading.Lock()
        """Held while memory is measured and others are put to sleep, or a server wakes up."""
        self._counting = threading.Lock()
        self._n_waiting_loads = 0
        self._reserved_bytes: dict[str, int] = {}
        """What the chat models need that are being loaded."""
        self._servers: dict[str, LocalServer] | None = None

    async def begin(self, url: str) -> None:
        """Waits until a generation may begin, with the memory it needs where that can be had."""
        server = self._known_servers().get(url)
        if server is None:
            return
        has_begun = False

        def prepare(cancellation: Cancellation) -> None:
            nonlocal has_begun
            self._prepare_generation(server, cancellation)
            has_begun = True

        try:
            await run_until_cancelled(prepare)
        except BaseException:
            if has_begun:
                self.end(url)
            raise

    def end(self, url: str) -> None:
        """A generation has ended."""
        server = self._known_servers().get(url)
        if server is not None:
            with self._counting:
                server.n_running -= 1

    @contextlib.contextmanager
    def loading(self, wait: Wait) -> Iterator[None]:
        """Surrounds the load of a chat model: makes room for it, for as long as its call waits."""
        if self._known_servers():
            self._prepare_load(wait)
        try:
            yield
        finally:
            self._reserved_bytes.pop(wait.name, None)

    def _prepare_generation(self, server: LocalServer, cancellation: Cancellation) -> None:
        """Makes room, has the server wake up, and counts the generation."""
        until_s = time.monotonic() + WAIT_S
        while not cancellation.is_set():
            is_late = time.monotonic() >= until_s
            if (is_late or not self._n_waiting_loads) and self._changing.acquire(timeout=POLL_S):
                try:
                    if self._may_generate(server) or is_late:
                        self._wake_up(server)
                        break
                finally:
                    self._changing.release()
            cancellation.wait(POLL_S)
        with self._counting:
            server.n_running += 1

    def _may_generate(self, server: LocalServer) -> bool:
        """Whether there is nothing to wait for, after idle chat models were put to sleep where that helps."""
        with _logged("a generation"):
            return self._room_for_generation(server) is not Action.WAIT
        return True

    def _room_for_generation(self, server: LocalServer) -> Action:
        """Has idle chat models sleep, one after another, until the memory is enough; returns what is left to do."""
        tried = set[str]()
        while True:
            devices = self._parts.memory_use().devices
            device = most_used_by_others(devices) if server.device is None else of_index(devices, server.device)
            server.has_gpu = device is not None
            if device is None:
                return Action.NOTHING
            others_bytes = others_bytes_of(device)
            server.learn(others_bytes)
            known = [each for each in (self._image_model_bytes(server.url), server.held_bytes) if each is not None]
            needed = needed_by_generation(max(known, default=None), others_bytes, sleeps=server.sleeps)
            idle, busy = self._chat_models(device, is_only=len(devices) == 1)
            idle = [name for name in idle if name not in tried]
            loading = dict(self._reserved_bytes)
            free = None if device.free_bytes is None else device.free_bytes - sum(loading.values())
            decision = decide(needed, free, len(idle), len(busy) + len(loading))
            log.debug("Before a generation at %s: %s.", server.url, decision.reason)
            if decision.action is not Action.SLEEP:
                return decision.action
            tried.add(idle[0])
            self._offload(idle[0], decision.reason)

    def _image_model_bytes(self, url: str) -> int | None:
        """The last peak of the image model, or its profile's estimate; `None` where neither is known."""
        maker = self._parts.image_maker
        if url != maker.client.url:
            return None
        if maker.peak_memory_mb is not None:
            return int(maker.peak_memory_mb * (1 << 20))
        estimated_gb = self._parts.jobs.ask(maker.model()).profile.estimated_vram_gb
        return None if estimated_gb is None else int(estimated_gb * (1 << 30))

    def _chat_models(self, device: Device, *, is_only: bool) -> tuple[list[str], list[str]]:
        """The loaded models on a GPU that can sleep: those that no call uses, the one used longest ago first, and the
        others."""
        models = self._parts.models
        engines = models.engines()
        found = [name for name, engine in engines.items() if can_sleep(engine, device, is_only=is_only)]
        found.sort(key=lambda name: engines[name].status().last_used_s or 0.0)
        idle = [name for name in found if not models.n_users(name)]
        return idle, [name for name in found if name not in idle]

    def _offload(self, name: str, reason: str) -> None:
        models = self._parts.models
        weights_bytes, free_bytes = (
            model_catalog.weights_bytes(models.settings_of(name)),
            self._parts.memory_use().free_bytes,
        )
        if weights_bytes is not None and free_bytes is not None and weights_bytes > free_bytes:
            log.info("%s stays on the GPU: the host has no memory for it.", name)
            return
        with models.unused(name) as is_unused:
            if is_unused:
                log.info("%s sleeps for the vLLM-Omni server: %s.", name, reason)
                models.engine(name).offload()

    def _wake_up(self, server: LocalServer) -> None:
        """Has a server wake up that sleeps, or that may: an earlier process may have put it to sleep, and until it
        wakes up it lets every request wait."""
        if server.is_awake or not (server.sleeps or server.has_gpu):
            return
        was_asleep = server.sleeps
        try:
            problem = self._parts.jobs.ask(server.client.wake_up())
        except (ServerRefused, ServerFailed, InvalidResponse) as error:  # it does not offer this, if it did not sleep
            problem, server.cannot_sleep = str(error), True
        except OmniError as error:
            log.debug("The vLLM-Omni server at %s was asked to wake up: %s", server.url, error)
            return
        server.is_awake, server.sleeps = True, False
        if problem is not None:
            level = logging.WARNING if was_asleep else logging.DEBUG
            log.log(level, "The vLLM-Omni server at %s did not wake up in order: %s", server.url, problem)

    def _prepare_load(self, wait: Wait) -> None:
        """Makes room for a chat model, and reserves it."""
        until_s = min(time.monotonic() + WAIT_S, wait.deadline_s or float("inf"))
        with self._counting:
            self._n_waiting_loads += 1
        try:
            while not wait.cancellation.is_set() and time.monotonic() < until_s:
                if self._changing.acquire(timeout=POLL_S):
                    try:
                        if self._may_load(wait):
                            return
                    finally:
                        self._changing.release()
                    wait.report("waiting until the generation on the GPU is done")
                wait.cancellation.wait(POLL_S)
        finally:
            with self._counting:
                self._n_waiting_loads -= 1

    def _may_load(self, wait: Wait) -> bool:
        """Whether there is nothing to wait for, after idle servers were put to sleep where that helps."""
        with _logged("a load"):
            return self._room_for_load(wait) is not Action.WAIT
        return True

    def _room_for_load(self, wait: Wait) -> Action:
        """Has idle servers sleep, one after another, until the memory is enough; returns what is left to do."""
        models, tried = self._parts.models, set[str]()
        engine, share = models.engine(wait.name), gpu_share(models.settings_of(wait.name))
        while True:
            device, held_bytes = self._device_of(engine)
            if device is None or engine.status().device == "cpu":
                return Action.NOTHING
            others_bytes = others_bytes_of(device)
            servers = [each for each in self._known_servers().values() if _may_sleep(each, others_bytes)]
            idle = [each for each in servers if not each.n_running and each.url not in tried]
            n_busy = sum(each.n_running > 0 for each in servers)
            needed = needed_by_load(share, device.total_bytes, held_bytes)
            decision = decide(needed, device.free_bytes, len(idle), n_busy)
            log.debug("Before a load of %s: %s.", wait.name, decision.reason)
            if decision.action is not Action.SLEEP:
                if needed is not None and decision.action is Action.NOTHING:
                    self._reserved_bytes[wait.name] = needed
                return decision.action
            tried.add(idle[0].url)
            wait.report("putting the vLLM-Omni server to sleep to make room")
            if self._sleep(idle[0], device, others_bytes):
                return Action.WAIT

    def _sleep(self, server: LocalServer, device: Device, others_bytes: int | None) -> bool:
        """Asks a server to sleep; returns whether it is at work for another program, so that it may later."""
        server.has_gpu = True
        try:
            self._wake_up(server)  # to sleep twice would break it
            if not server.is_awake:
                return False
            server.is_awake = None  # where the answer is lost
            slept = self._parts.jobs.ask(server.client.sleep())
        except ServerUnreachable:
            return False
        except OmniError as error:
            log.warning("The vLLM-Omni server at %s was asked to sleep: %s", server.url, error)
            return False
        server.is_awake = True
        if slept.why_not is None:
            log.info("The vLLM-Omni server at %s sleeps for the chat model.", server.url)
            server.fall_asleep(device.index, others_bytes)
        elif not slept.is_busy:
            log.info("The vLLM-Omni server at %s does not sleep: %s.", server.url, slept.why_not)
            server.cannot_sleep = True
        return slept.is_busy

    def _device_of(self, engine: Engine) -> tuple[Device | None, int | None]:
        """The GPU that a chat model is or will be on, `None` where that is not certain; and what it holds there."""
        own = gpu.devices(engine.process_ids()) if engine.status().state is EngineState.OFFLOADED else ()
        held = {device.index: device.server_bytes for device in own if device.server_bytes}
        devices = self._parts.memory_use().devices
        if len(devices) == 1:
            return devices[0], held.get(devices[0].index)
        found = next((device for device in devices if len(held) == 1 and device.index in held), None)
        return found, None if found is None else held[found.index]

    def _known_servers(self) -> dict[str, LocalServer]:
        """The servers of this machine that the settings name, by their addresses."""
        with self._counting:
            if self._servers is None:
                self._servers = local_servers(self._settings.omni, self._parts.outgoing)
                for server in self._servers.values():
                    self._parts.jobs.at_end(server.client.close)
            return self._servers


def _may_sleep(server: LocalServer, others_bytes: int | None) -> bool:
    """Whether it makes sense to ask a server to sleep; of one that may sleep already, other programs hold little."""
    if server.sleeps or server.cannot_sleep:
        return False
    return server.is_awake is True if others_bytes is None else others_bytes >= MIN_MODEL_BYTES


@contextlib.contextmanager
def _logged(what: str) -> Iterator[None]:
    """Logs what goes wrong: memory that could not be freed is no error of its own."""
    try:
        yield
    except Exception:
        log.warning("The GPU could not be shared before %s.", what, exc_info=True)
