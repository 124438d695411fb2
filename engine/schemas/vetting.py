"""Checks in a sandboxed child whether the grammar backend can use a schema."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from engine.errors import GenerationCancelled, GenerationFailed, InvalidGeneration
from engine.schemas.bounds import bounded
from engine.schemas.trial import TOO_COMPLEX
from sandbox.errors import SandboxCancelled, SandboxError, SandboxFailed, SandboxTimeout, SandboxUnavailable

if TYPE_CHECKING:
    from engine.interface import Control
    from sandbox.pool import Sandbox

log = logging.getLogger("engine")

TRIAL_S = 15.0
"""Seconds for a trial, waiting for a child included. The trial checks its processor time only outside the library."""
MEMORY_BYTES = 128 << 20
"""Memory for compiling and using a schema. vLLM does it again in the server, which then needs as much. A schema of a
thousand properties takes 10 MB."""
MAX_VERDICTS = 512


class SchemaVetting:
    """Checks each schema once: the newest `MAX_VERDICTS` results are kept. Any thread may use it."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._lock = threading.Lock()
        self._verdicts: OrderedDict[bytes, str | None] = OrderedDict()

    def check(self, schema: dict[str, Any], control: Control) -> None:
        """Rejects a schema that vLLM could not use, or only beyond the limits of time and memory.

        Without the backend, no schema is rejected: it is installed with vLLM, without which the load fails.

        Raises: `InvalidGeneration`, which says why; `GenerationCancelled`; `GenerationFailed` if the check could not be
        made in time.
        """
        if importlib.util.find_spec("llguidance") is None:
            return
        text = json.dumps(bounded(schema))
        key = hashlib.sha256(text.encode()).digest()
        with self._lock:
            is_known = key in self._verdicts
            problem = self._verdicts.get(key)
            if is_known:
                self._verdicts.move_to_end(key)
        if not is_known:
            problem = self._problem(text, control)
            with self._lock:
                self._verdicts[key] = problem
                if len(self._verdicts) > MAX_VERDICTS:
                    self._verdicts.popitem(last=False)
        if problem is not None:
            raise InvalidGeneration(f"this schema cannot be used: {problem}.")

    def _problem(self, text: str, control: Control) -> str | None:
        left_s = TRIAL_S if control.deadline_s is None else min(TRIAL_S, control.deadline_s - time.monotonic())
        if left_s <= 0:
            raise GenerationFailed("The call's time was up before its schema was checked.")
        try:
            problem: str | None = self._sandbox.run(
                "engine.schemas.trial:problem_of",
                {"schema": text},
                timeout_s=left_s,
                memory_bytes=MEMORY_BYTES,
                cancellation=control.cancellation,
            ).value
        except SandboxCancelled:
            raise GenerationCancelled("The generation was cancelled.") from None
        except SandboxTimeout:
            if control.is_late:
                raise GenerationFailed("The call's time was up while its schema was checked.") from None
            raise InvalidGeneration(
                f"this schema cannot be used: {TOO_COMPLEX}."
            ) from None  # not kept: the machine may be busy
        except SandboxUnavailable as error:
            log.error("A schema could not be checked.", exc_info=error)
            raise GenerationFailed(
                "The schema could not be checked: the server could not start another process. Try again later."
            ) from None
        except SandboxError as error:
            if isinstance(error, SandboxFailed):
                log.error("The check of a schema failed.", exc_info=error)
            return TOO_COMPLEX  # it needed more memory, or the backend crashed
        return problem
