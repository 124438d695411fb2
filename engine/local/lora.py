"""LoRA adapters, by the names that the settings give them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from engine.errors import EngineUnavailable, InvalidGeneration
from engine.local import failures
from engine.local.engine_args import FAILED

SETTING = "VLLM_LORA_MODULES"
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
MAX_HEADER_BYTES = 100_000_000
"""The format's own limit."""
_READS_HIDDEN_STATE = ("q_proj", "k_proj", "v_proj", "qkv_proj", "gate_proj", "up_proj", "gate_up_proj")


def ranks_of(folders: Mapping[str, str]) -> dict[str, int]:
    """The rank of each adapter; `folders` has the folders by the adapters' names.

    Raises: `EngineUnavailable`, which names the adapter.
    """
    return {name: _rank(name, folder) for name, folder in folders.items()}


def engine_arguments(ranks: Mapping[str, int], allowed: Collection[int]) -> dict[str, Any]:
    """The arguments of `vllm.LLM` for adapters of these ranks; none where there are no adapters.

    Arguments:
        ranks: the ranks by the adapters' names.
        allowed: the values that vLLM accepts for `max_lora_rank`.
    Raises: `EngineUnavailable`.
    """
    if not ranks:
        return {}
    enough = [rank for rank in allowed if rank >= max(ranks.values())]
    if not enough:
        name = max(ranks, key=ranks.__getitem__)
        raise EngineUnavailable(
            f"{FAILED}: the adapter {name} has rank {ranks[name]}, and this vLLM takes ranks up to {max(allowed)}. "
            f"Change {SETTING}."
        )
    # One slot on the device: all conversations of a call use the same adapter.
    return {"enable_lora": True, "max_loras": 1, "max_cpu_loras": len(ranks), "max_lora_rank": min(enough)}


class LoraAdapters:
    """The LoRA adapters of one loaded engine.

    An adapter keeps its number as long as the setting is the same: vLLM's prefix cache uses it as a key.

    Arguments:
        folders: the folders of the adapters by their names.
    """

    def __init__(self, folders: Mapping[str, str]) -> None:
        self._folders = folders
        self._numbers = {name: number for number, name in enumerate(folders, start=1)}

    def load(self, hidden_size: int, add_lora: Callable[[Any], None]) -> None:
        """Loads all of them: one that does not fit the model would otherwise break the engine at its first use.

        Arguments:
            hidden_size: the width of the model's hidden state.
            add_lora: loads a `LoRARequest` into the engine.
        Raises: `EngineUnavailable`.
        """
        for name, folder in self._folders.items():
            # vLLM 0.32 accepts weights that are too narrow, and then generates noise.
            widths = set(_input_widths(os.path.join(os.path.expanduser(folder), WEIGHTS)))
            if widths and hidden_size not in widths:
                raise _unusable(name, folder, f"its weights are not made for a model of width {hidden_size}")
            try:
                add_lora(self.request(name))
            except Exception as error:
                if failures.is_fatal(error):
                    raise
                raise _unusable(name, folder, failures.reason(error)) from error

    def request(self, name: str | None) -> Any:
        """vLLM's `LoRARequest` for an adapter's name; `None` for the model itself."""
        if name is None:
            return None
        if name not in self._numbers:
            raise InvalidGeneration(f"There is no adapter {name[:60]!r}; {SETTING} lists those that there are.")
        from vllm.lora.request import LoRARequest

        return LoRARequest(name, self._numbers[name], os.path.expanduser(self._folders[name]))


def _rank(name: str, folder: str) -> int:
    path = os.path.expanduser(folder)
    if not os.path.isdir(path):
        raise _unusable(name, folder, "there is no such folder")
    try:
        with open(os.path.join(path, CONFIG), encoding="utf-8") as file:
            config = json.load(file)
        ranks: list[int] = [config["r"], *(config.get("rank_pattern") or {}).values()]
    except FileNotFoundError:
        raise _unusable(name, folder, f"the folder has no {CONFIG}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise _unusable(name, folder, f"its {CONFIG} does not tell its rank (r)") from None
    if not all(isinstance(rank, int) and rank > 0 for rank in ranks):
        raise _unusable(name, folder, f"its {CONFIG} does not tell its rank (r)")
    return max(ranks)


def _input_widths(path: str) -> Iterator[int]:
    """The input widths of those layers that read the hidden state; none where the file cannot be read."""
    try:
        with open(path, "rb") as file:
            n_bytes = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(n_bytes)) if n_bytes <= MAX_HEADER_BYTES else {}
        shapes = {name: entry["shape"] for name, entry in header.items() if name.endswith(".lora_A.weight")}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return  # vLLM then says what is wrong with the file
    for name, shape in shapes.items():
        if name.split(".")[-3] in _READS_HIDDEN_STATE:
            yield shape[-1]


def _unusable(name: str, folder: str, reason: str) -> EngineUnavailable:
    return EngineUnavailable(
        f"{FAILED}: the adapter {name}={folder} cannot be used: {reason.rstrip('.')}. Change {SETTING}."
    )
