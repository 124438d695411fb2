"""The LoRA adapters of the image server, by the names that the settings give them.

A request to vLLM-Omni has an adapter's folder on the server's machine. A caller only ever gives a name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from omni.errors import InvalidParameters, ServerFailed, ServerRefused
from settings.omni import ImageLora

SETTING = "OMNI_LORA_MODULES"
MAX_SHOWN_NAMES = 20
_ABOUT_FILES = re.compile(r"no such file|adapter_config|adapter_model|not a directory|\blora\b|\bpeft\b", re.IGNORECASE)
"""In vLLM-Omni's errors about an adapter that it cannot load; a wrong folder is an HTTP 500."""


class ImageLoras:
    """The adapters that a call may name.

    Arguments: `adapters` has them by name.
    """

    def __init__(self, adapters: Mapping[str, ImageLora]) -> None:
        self._adapters = adapters

    @property
    def names(self) -> list[str]:
        """The names, in the order of the setting."""
        return list(self._adapters)

    def check(self, name: str | None) -> None:
        """Raises `InvalidParameters`, with the names that exist, for an unknown one."""
        if name is None or name in self._adapters:
            return
        shown = name if len(name) <= 60 else name[:60] + "…"
        names = ", ".join(self.names[:MAX_SHOWN_NAMES])
        raise InvalidParameters(
            f"lora: there is no adapter {shown!r}. "
            + (f"{SETTING} names {names}." if names else f"The setting {SETTING} names none.")
        )

    def fields(self, name: str | None) -> dict[str, Any]:
        """The field of a request to vLLM-Omni; none without an adapter."""
        if name is None:
            return {}
        adapter = self._adapters[name]
        return {"lora": {"name": name, "path": adapter.path, "scale": adapter.scale}}

    def explained(self, error: ServerFailed | ServerRefused, name: str | None) -> ServerFailed | ServerRefused:
        """The error that says what to do where the server cannot load an adapter; any other one unchanged."""
        if name is None or not _ABOUT_FILES.search(str(error)):
            return error
        return ServerFailed(
            f"The vLLM server cannot use the LoRA adapter {name}. {SETTING} must name its folder on the server's "
            "machine, with adapter_config.json and adapter_model.safetensors made for this model; the server's log "
            "has the reason."
        )


NO_LORAS = ImageLoras({})
