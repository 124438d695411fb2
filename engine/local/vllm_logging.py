"""Lowers warnings of vLLM and its libraries that need no action to the level DEBUG.

Every load logs them. They are about this server's own choices (eager execution, an in-process engine) or about missing
GPU packages, and hide the important lines. An engine core in its own process writes its log itself.
"""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, MutableMapping
from typing import Any

_COMMON = (
    "Triton is installed",
    "Triton is not installed",
    "Triton not installed",
    "Model Runner V2 requires Triton",
    "The global random seed is set to",
    "Enforce eager set, disabling",
    "Inductor compilation was disabled by user settings",
    "Model does not support mm_device_do_normalize",
    "Reset SSM cache type",
    "CPU backend doesn't allow to use `torch.set_num_threads`",
    "Model config: pad_token_id must be",
    "Failed to create oneDNN linear",  # on CPUs without AVX-512
)
"""The beginnings of such messages (vLLM 0.32, transformers 5)."""
_WITHIN = ("is not found in LD_PRELOAD", "requires torchvision (not installed)", "is already registered. Overwriting.")


class _Demoting:
    """A record factory that sets the level of those messages to DEBUG.

    vLLM replaces its log handlers during a load, but not the record factory.
    """

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make

    def __call__(self, *arguments: Any, **more: Any) -> logging.LogRecord:
        record = self._make(*arguments, **more)
        text = str(record.msg)
        if record.levelno <= logging.WARNING and (text.startswith(_COMMON) or any(part in text for part in _WITHIN)):
            record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        return record


def lower_warnings(environment: MutableMapping[str, str]) -> None:
    """Lowers those messages to the level DEBUG; must be called before vLLM is imported."""
    if not isinstance(logging.getLogRecordFactory(), _Demoting) and "vllm" not in sys.modules:
        logging.setLogRecordFactory(_Demoting(logging.getLogRecordFactory()))
    if environment.get("VLLM_LOGGING_LEVEL") != "DEBUG":
        environment.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"(vllm|torch)\.")


def quieten_transformers() -> None:
    """Makes the handlers of transformers reject records below the level of its logger; call it after importing vLLM."""
    logger = logging.getLogger("transformers")
    for handler in logger.handlers:
        handler.setLevel(logger.level)
