"""LoRA adapters by name: those that the settings list, and no others; a remote server knows its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from mcp_protocol.tools import ArgumentError

if TYPE_CHECKING:
    from settings import EngineSettings


LoraArgument = Annotated[
    str, Meta(max_length=256, description="LoRA adapter to answer with, one of model_info's lora_modules.")
]


def adapter_of(name: str | None, settings: EngineSettings) -> str | None:
    """The name of the adapter to use, `None` for the model itself.

    Raises: `ArgumentError`, which lists the adapters there are.
    """
    if name is None or name in settings.lora_modules or settings.base_url is not None:
        return name
    known = ", ".join(settings.lora_modules)
    there_are = f"there are {known}" if known else "the setting VLLM_LORA_MODULES lists none"
    raise ArgumentError(f"arguments.lora: there is no adapter {name[:60]!r}; {there_are}")
