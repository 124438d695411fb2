"""The models behind the server, each with its own engine. Nothing is loaded before a call needs it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

from engine.errors import UnknownModel
from engine.interface import Engine, EngineState, EngineStatus, OnPhase
from engine.residency import Residency, Wait
from engine.room import MachineRoom
from sandbox.cancellation import Cancellation
from settings import EngineSettings

MAX_OTHERS = 16
"""Models of a remote server that are known at a time although no setting names them."""


@dataclass(frozen=True, slots=True)
class ModelInUse:
    """A loaded model that stays loaded while it is in use; `load_s` is the time that its load took, 0.0 for none."""

    name: str
    engine: Engine
    load_s: float


class Models:
    """Any thread may call any method.

    Arguments:
        settings: those of each model by its name; the first is the default model.
        make_engine: makes the engine of a model by its name.
        others: whether calls may name other models too, those of a remote server.
        around_load: surrounds each load of a model of this process.

    Attributes: `names`, those of the settings, the default model first; `default`, its name.
    """

    def __init__(
        self,
        settings: Mapping[str, EngineSettings],
        make_engine: Callable[[str], Engine],
        *,
        others: bool = False,
        around_load: Callable[[Wait], contextlib.AbstractContextManager[object]] | None = None,
    ) -> None:
        self.settings = dict(settings)
        self._takes_others = others
        self.names = tuple(settings)
        self.default = self.names[0]
        self._make_engine = make_engine
        self._engines: dict[str, Engine] = {}
        self._lock = threading.Lock()
        room = MachineRoom(self.settings, self.engines)
        max_loaded = self.settings[self.default].max_loaded_models
        self._residency = Residency(self.engine, self.engines, room, max_loaded, around_load)

    def name_of(self, name: str | None) -> str:
        """The name in replies of a model that a caller names by it or by its path; `None` means the default one.

        Raises: `UnknownModel`.
        """
        if name is None or name in self.settings:
            return self.default if name is None else name
        found = next((known for known, each in self.settings.items() if each.model_name == name), None)
        if found is None and self._takes_others and name.isprintable():
            return self._other(name)
        if found is None:
            raise UnknownModel(name, self.names)
        return found

    def _other(self, name: str) -> str:
        """Adds a model that only the remote server knows; its engine refuses a name that the server does not have."""
        if self.engine(self.default).status().model_name == name:  # the first model of the server
            return self.default
        own = msgspec.structs.replace(self.settings[self.default], served_name=name, model_name=name)
        with self._lock:
            others = [other for other in self.settings if other not in self.names]
            for other in others[: max(0, len(others) - MAX_OTHERS + 1)]:
                del self.settings[other]
                self._engines.pop(other, None)
            self.settings[name] = own
        return name

    def settings_of(self, name: str | None) -> EngineSettings:
        """The settings of a model.

        Raises: `UnknownModel`.
        """
        return self.settings[self.name_of(name)]

    def engine(self, name: str | None = None) -> Engine:
        """The engine of a model; loads nothing.

        Raises: `UnknownModel`.
        """
        name = self.name_of(name)
        with self._lock:
            if name not in self._engines:
                self._engines[name] = self._make_engine(name)
            return self._engines[name]

    def engines(self) -> dict[str, Engine]:
        """The engines made so far, by the names of their models."""
        with self._lock:
            return dict(self._engines)

    def statuses(self) -> dict[str, EngineStatus]:
        """The status of each model by its name; makes no engine and loads nothing."""
        made = self.engines()
        return {
            name: made[name].status() if name in made else EngineStatus(EngineState.UNLOADED, name)
            for name in dict.fromkeys((*self.names, *made))
        }

    @contextlib.contextmanager
    def in_use(
        self,
        name: str | None,
        on_phase: OnPhase | None = None,
        cancellation: Cancellation | None = None,
        deadline_s: float | None = None,
    ) -> Iterator[ModelInUse]:
        """Loads a model where needed, and has others give way for it; inside the context it gives way to none.

        Arguments:
            name: the model, `None` for the default one.
            on_phase: called with what is loaded and what gives way.
            cancellation: ends the waiting for models in use.
            deadline_s: ends it too, a `time.monotonic()` value.

        Raises: `UnknownModel`, the errors of `Engine.load`, and `GenerationCancelled` and `GenerationFailed` where the
        waiting ends.
        """
        name = self.name_of(name)
        engine = self.engine(name)
        listener = self._named(name, on_phase) if on_phase is not None else _ignore
        if self.settings[name].base_url is not None:
            yield ModelInUse(name, engine, engine.load(listener))
            return
        wait = Wait(name, listener, cancellation or Cancellation(), deadline_s)
        with self._residency.in_use(wait) as load_s:
            yield ModelInUse(name, engine, load_s)

    def unused(self, name: str) -> contextlib.AbstractContextManager[bool]:
        """Whether no call uses a model; if so, none begins to use it inside the context."""
        return self._residency.unused(self.name_of(name))

    def n_users(self, name: str) -> int:
        """How many calls use a model now, or load it."""
        return self._residency.n_users(self.name_of(name))

    def _named(self, name: str, on_phase: OnPhase) -> OnPhase:
        """Says of which model a phase is, where there are several."""
        if len(self.names) == 1:
            return on_phase
        return lambda phase: on_phase(f"{name}: {phase}")

    def close(self) -> None:
        """Ends all engines but the default model's, which is not made here; called once, at the end of the server."""
        self._residency.close()
        for name, engine in self.engines().items():
            if name != self.default:
                engine.close()


def _ignore(phase: str) -> None:
    """For callers that do not listen."""
