"""Whether the grammar backend can follow a schema, found out in a child that it may break."""

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
from engine.schema_bounds import bounded
from engine.schema_trial import TOO_COMPLEX
from sandbox.errors import SandboxCancelled, SandboxError, SandboxFailed, SandboxTimeout, SandboxUnavailable

if TYPE_CHECKING:
    from engine.interface import Control
    from sandbox.pool import Sandbox

log = logging.getLogger("engine")

TRIAL_S = 15.0
"""Of a trial, waiting for a child included. It looks at its processor time itself, but not inside of the library."""
MEMORY_BYTES = 128 << 20
"""What compiling and following a schema may take. vLLM does it again in the server, which then needs as much. A schema
of a thousand properties takes 10 MB."""
MAX_VERDICTS = 512


class SchemaVetting:
    """Tries schemas, each once: verdicts are kept, the newest `MAX_VERDICTS` of them. Any thread may use it."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._lock = threading.Lock()
        self._verdicts: OrderedDict[bytes, str | None] = OrderedDict()

    def check(self, schema: dict[str, Any], control: Control) -> None:
        """Refuses a schema that vLLM could not follow, or not within bounds.

        Where the backend is not installed, nothing is refused: it comes with vLLM, without which the load fails.

        Raises: `InvalidGeneration`, which says why; `GenerationCancelled`, and `GenerationFailed` where there was no
        time to find out.
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
            problem = self._tried(text, control)
            with self._lock:
                self._verdicts[key] = problem
                if len(self._verdicts) > MAX_VERDICTS:
                    self._verdicts.popitem(last=False)
        if problem is not None:
            raise InvalidGeneration(f"this schema cannot be used: {problem}.")

    def _tried(self, text: str, control: Control) -> str | None:
        left_s = TRIAL_S if control.deadline_s is None else min(TRIAL_S, control.deadline_s - time.monotonic())
        if left_s <= 0:
            raise GenerationFailed("The call's time was up before its schema was looked at.")
        try:
            problem: str | None = self._sandbox.run(
                "engine.schema_trial:problem_of",
                {"schema": text},
                timeout_s=left_s,
                memory_bytes=MEMORY_BYTES,
                cancelled=control.cancelled,
            ).value
        except SandboxCancelled:
            raise GenerationCancelled("The generation was cancelled.") from None
        except SandboxTimeout:
            if control.is_late:
                raise GenerationFailed("The call's time was up while its schema was tried.") from None
            raise InvalidGeneration(f"this schema cannot be used: {TOO_COMPLEX}.") from None  # not kept: it may be busy
        except SandboxUnavailable as error:
            log.error("A schema could not be tried.", exc_info=error)
            raise GenerationFailed(
                "The schema could not be tried: the system gave the server no further process. Try again later."
            ) from None
        except SandboxError as error:
            if isinstance(error, SandboxFailed):
                log.error("The trial of a schema failed.", exc_info=error)
            return TOO_COMPLEX  # it wanted more memory, or the backend ended the process
        return problem
