"""Warnings of vLLM and its libraries that nobody who runs this server can do anything about: for the level DEBUG.

They come with every load, speak of this server's own choices (eager execution, an engine in this process) or of parts
that a machine without a GPU lacks, and hide the one line that matters. An engine core in a process of its own writes
its log itself.
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
)
"""How such messages begin (vLLM 0.32, transformers 5)."""
_WITHIN = ("is not found in LD_PRELOAD", "requires torchvision (not installed)", "is already registered. Overwriting.")


class _Demoting:
    """Makes records as another factory does, those messages as ones of the level DEBUG.

    vLLM replaces its handlers during a load; the factory stays.
    """

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make

    def __call__(self, *arguments: Any, **more: Any) -> logging.LogRecord:
        record = self._make(*arguments, **more)
        text = str(record.msg)
        if record.levelno <= logging.WARNING and (text.startswith(_COMMON) or any(part in text for part in _WITHIN)):
            record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        return record


def expect_warnings(environment: MutableMapping[str, str]) -> None:
    """Called before vLLM is imported: from now on those messages are of the level DEBUG."""
    if not isinstance(logging.getLogRecordFactory(), _Demoting) and "vllm" not in sys.modules:
        logging.setLogRecordFactory(_Demoting(logging.getLogRecordFactory()))
    if environment.get("VLLM_LOGGING_LEVEL") != "DEBUG":
        environment.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"(vllm|torch)\.")


def quieten_transformers() -> None:
    """Called after vLLM was imported: a handler of transformers takes no record of a lower level than its logger."""
    logger = logging.getLogger("transformers")
    for handler in logger.handlers:
        handler.setLevel(logger.level)
