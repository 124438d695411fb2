"""Imports vLLM in the background, so that the first call does not wait for it."""

from __future__ import annotations

import threading
import time

from settings import Settings

IMPORT_DELAY_S = 1.0
"""How long the import of vLLM in the background waits for the first requests of the client to be answered."""


def import_vllm_soon(settings: Settings) -> None:
    """Imports vLLM in a thread that no call waits for."""
    threading.Thread(target=_import_vllm, args=(settings,), name="import", daemon=True).start()


def _import_vllm(settings: Settings) -> None:
    time.sleep(IMPORT_DELAY_S)
    try:
        from engine.local.loader import import_ahead

        import_ahead(settings.engine, settings.server.log_level)
    except BaseException:  # the first load tries again
        from mcp_protocol import log

        log.log_failure("importing vLLM in the background")
